import contextlib
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
from conftest import ROOT
from torch.utils.data import DataLoader

from cellseg_mm.utils import UserError, one_line_errors


class Broken:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError('x.tif: broken; mend it')


@pytest.mark.parametrize('workers', [0, 1])
def test_one_line_wherever_the_mistake_is_met(capsys, workers):
    @one_line_errors
    def main():
        list(DataLoader(Broken(), num_workers=workers))

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == 'error: x.tif: broken; mend it\n'


@pytest.mark.parametrize('said', [dict(), dict(stopped='stopped; --resume goes on')])
def test_ctrl_c(capsys, said):
    @one_line_errors(**said)
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130
    assert capsys.readouterr().err == said.get('stopped', 'stopped') + '\n'


def test_sigterm_is_ctrl_c_within_a_tool(capsys, monkeypatch):
    """What a tool opened is closed. Afterwards, in a thread, and for torchrun's processes, SIGTERM is as before."""
    monkeypatch.delenv('RANK', raising=False)
    before, closed, within = signal.getsignal(signal.SIGTERM), [], []

    @one_line_errors(stopped='stopped')
    def main(is_stopped):
        with contextlib.closing(SimpleNamespace(close=lambda: closed.append(True))):
            within.append(signal.getsignal(signal.SIGTERM))
            if is_stopped:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)

    with pytest.raises(SystemExit) as caught:
        main(True)
    assert caught.value.code == 130 and capsys.readouterr().err == 'stopped\n' and closed
    thread = threading.Thread(target=main, args=(False,))
    thread.start()
    thread.join()
    monkeypatch.setenv('RANK', '0')
    main(False)
    assert within[1:] == [before] * 2 and signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_of_which_a_library_made_another_error(capsys):
    @one_line_errors
    def main():
        try:
            raise KeyboardInterrupt
        except BaseException:
            raise SyntaxError('failed to format the config') from None

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130 and capsys.readouterr().err == 'stopped\n'


def test_only_tools_that_have_resume_advise_it():
    for path in (ROOT / 'tools').glob('*.py'):
        text = path.read_text('utf-8')
        assert ('stopped; --resume' in text) == ("'--resume'" in text), path


def test_other_errors_keep_their_trace():
    @one_line_errors
    def main():
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        main()
