from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from processes import context

from cellseg_mm.utils import UserError, locked


def hold(path: Path, ends: Connection) -> None:
    with locked(path):
        ends.send('held')
        ends.recv()


def test_one_process_at_a_time_holds_a_lock(tmp_path):
    path = tmp_path / 'lock'
    ours, theirs = context.Pipe()
    holder = context.Process(target=hold, args=(path, theirs))
    holder.start()
    assert ours.recv() == 'held'
    with pytest.raises(UserError, match='another one'), locked(path, busy='another one'):
        pass
    ours.send('let go')
    holder.join()
    with locked(path, busy='another one'), pytest.raises(UserError), locked(path, busy='this one'):
        pass
