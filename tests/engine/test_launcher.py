import pytest
import torch

from cellseg_mm.engine import launcher
from cellseg_mm.utils import UserError


def test_launchers_that_did_not_start_the_process_or_cannot(cfg, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match='start the command by torchrun'):
        launcher.set_launcher(cfg, 'pytorch', 0)
    with pytest.raises(UserError, match='slurm: needs CUDA devices'):
        launcher.set_launcher(cfg, 'slurm', 0)
