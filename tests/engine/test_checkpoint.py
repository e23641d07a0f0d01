import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, save_checkpoint

from cellseg_mm.engine import checkpoint as checkpoints
from cellseg_mm.utils import UserError
from cellseg_mm.utils.errors import explain


def write(path, **content) -> None:
    save_checkpoint(dict(state_dict=dict(weight=torch.arange(1000.0)), **content), str(path))


def test_what_training_saves_is_read_again(tmp_path):
    log = HistoryBuffer([1.0, 2.5], [1, 2])
    write(tmp_path / 'epoch_1.pth', message_hub=dict(log=log, eta=np.float64(3.5), count=np.int64(2)))
    content = checkpoints.read_checkpoint(str(tmp_path / 'epoch_1.pth'))
    hub = content['message_hub']
    assert hub['log'].data[0].tolist() == [1.0, 2.5] and hub['log'].statistics('max') == 2.5
    assert (hub['eta'], hub['count']) == (3.5, 2)
    # where MMEngine wants it on a GPU, too: no tensor waits there to be read back
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'epoch_1.pth'), map_location='cuda')
    assert loaded['state_dict']['weight'].device.type == 'cpu'


def test_the_digest_beside_a_checkpoint_is_that_of_sha256sum(tmp_path):
    write(tmp_path / 'epoch_1.pth')
    subprocess.run(['sha256sum', '-c', 'epoch_1.pth.sha256'], cwd=tmp_path, check=True, capture_output=True)


def test_a_cut_off_or_changed_file_is_named_as_such(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    write(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for broken in (whole[:-100], bytes(flipped)):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r'epoch_1\.pth: cut off or changed since .* \(epoch_1\.pth\.sha256 has'):
            checkpoints.read_checkpoint(str(path))
    (tmp_path / 'epoch_1.pth.sha256').unlink()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match='not a whole checkpoint'):
        checkpoints.read_checkpoint(str(path))


def test_files_that_are_no_checkpoint(tmp_path):
    path = tmp_path / 'x.pth'
    with pytest.raises(UserError, match='no such checkpoint'):
        checkpoints.read_checkpoint(str(path))
    for content in (b'', b'hello', b'PK\x03\x04'):
        path.write_bytes(content)
        with pytest.raises(UserError, match='not a whole checkpoint') as raised:
            checkpoints.read_checkpoint(str(path))
        assert '\n' not in str(raised.value)
    torch.save([1], path)
    with pytest.raises(UserError, match='holds no state_dict'):
        checkpoints.read_checkpoint(str(path))


def test_a_removed_checkpoint_takes_its_digest_along(tmp_path):
    write(tmp_path / 'epoch_1.pth')
    get_file_backend(str(tmp_path)).remove(str(tmp_path / 'epoch_1.pth'))
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    write(path, epoch=1)

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('cellseg_mm.utils.files.os.fsync', full)
    with pytest.raises(OSError, match='No space left') as raised:
        write(path, epoch=2)
    assert explain(raised.value).startswith(f'{path}: no space left on the disk')
    assert checkpoints.read_checkpoint(str(path))['epoch'] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ['epoch_1.pth']


def test_the_latest_whole_checkpoint_is_found(tmp_path, capsys):
    assert checkpoints.latest_checkpoint(str(tmp_path)) is None
    for epoch in (2, 9, 10):
        write(tmp_path / f'epoch_{epoch}.pth')
    write(tmp_path / 'best_cells_epoch_11.pth')  # holds no optimizer
    assert checkpoints.latest_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_10.pth')
    (tmp_path / 'epoch_10.pth').write_bytes(b'torn')
    assert checkpoints.latest_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_9.pth')
    assert 'skipped: ' in capsys.readouterr().out


def test_checkpoints_of_an_earlier_and_longer_run_are_not_taken(tmp_path):
    def latest() -> str:
        return Path(checkpoints.latest_checkpoint(str(tmp_path))).name

    for second, epoch in enumerate((10, 11, 12, 1, 2, 3)):
        write(tmp_path / f'epoch_{epoch}.pth')
        os.utime(tmp_path / f'epoch_{epoch}.pth', (second, second))
    assert latest() == 'epoch_3.pth'  # the newest
    pointer = tmp_path / 'last_checkpoint'
    pointer.write_text('elsewhere/epoch_3.pth')
    os.utime(pointer, (6, 6))
    os.utime(tmp_path / 'epoch_2.pth', (9, 9))  # the times of a copied folder need not be in order
    assert latest() == 'epoch_3.pth'
    (tmp_path / 'epoch_3.pth').write_bytes(b'torn')
    assert latest() == 'epoch_2.pth'
    (tmp_path / 'epoch_3.pth').unlink()
    assert latest() == 'epoch_2.pth'
    write(tmp_path / 'epoch_4.pth')  # and killed before last_checkpoint says so
    assert latest() == 'epoch_4.pth'
    pointer.write_text('')  # killed while it was written
    assert latest() == 'epoch_4.pth'


@pytest.mark.parametrize('kept, epochs', [(2, 9), (-1, 2), (0, 2)])  # below 1, MMEngine keeps all
def test_a_run_that_does_not_fit_on_the_disk_does_not_start(kept, epochs, tmp_path, monkeypatch):
    model = torch.nn.Linear(1000, 1000, bias=False)  # 4 MB; 3 * (2 + 1) + 2 times that is needed
    for free, fits in ((44_000_000, True), (43_999_999, False)):
        monkeypatch.setattr(checkpoints.shutil, 'disk_usage', lambda _, free=free: type('Usage', (), dict(free=free)))
        if fits:
            checkpoints.check_disk_space(model, str(tmp_path), kept, epochs)
        else:
            with pytest.raises(UserError, match=r'need 0\.0 GiB'):
                checkpoints.check_disk_space(model, str(tmp_path), kept, epochs)
