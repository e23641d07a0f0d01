import pytest
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


def test_ctrl_c(capsys):
    @one_line_errors
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130
    assert capsys.readouterr().err == 'stopped; a run goes on from its last checkpoint by --resume\n'


def test_other_errors_keep_their_trace():
    @one_line_errors
    def main():
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        main()
