import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from processes import context

from cellseg_mm.utils import UserError, claimed, locked, remove_partial, write_atomically


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


def claim(path: Path, ends: Connection) -> None:
    with claimed(path, 'taken'):
        ends.send('claimed')
        ends.recv()


def test_one_process_at_a_time_has_a_claim(tmp_path):
    path = tmp_path / 'new' / '.lock'
    ours, theirs = context.Pipe()
    holder = context.Process(target=claim, args=(path, theirs))
    holder.start()
    assert ours.recv() == 'claimed'
    with pytest.raises(UserError, match='taken by another'), claimed(path, 'taken by another'):
        pass
    assert path.exists()  # it is the other's
    ours.send('let go')
    holder.join()
    assert not path.exists()
    with pytest.raises(ZeroDivisionError), claimed(path, 'taken'):
        1 / 0  # noqa: B018
    assert not path.exists()


def test_a_claim_ends_with_a_process_that_is_killed(tmp_path):
    path = tmp_path / '.lock'
    ours, theirs = context.Pipe()
    holder = context.Process(target=claim, args=(path, theirs))
    holder.start()
    assert ours.recv() == 'claimed'
    holder.kill()
    holder.join()
    with claimed(path, 'taken'):
        pass
    assert not path.exists()


def test_what_a_killed_process_left_half_written_is_removed(tmp_path, monkeypatch):
    """A file of write_atomically(), and a folder as that of export_cells(); other files stay."""
    monkeypatch.setattr('cellseg_mm.utils.files.os.replace', lambda *_: None)
    monkeypatch.setattr(Path, 'unlink', lambda *_, **__: None)
    write_atomically(tmp_path / 'epoch_1.pth', 'x')
    monkeypatch.undo()
    Path(tempfile.mkdtemp(prefix='.slide 1.', suffix='.partial', dir=tmp_path), 'new').mkdir()
    kept = {'epoch_1.pth', '.mine.partial', 'a.12.partial', '.hidden'}
    for name in kept:
        (tmp_path / name).touch()
    assert len(list(tmp_path.iterdir())) == len(kept) + 2
    remove_partial(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
