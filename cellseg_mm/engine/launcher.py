import os

import torch
from mmengine.config import Config

from cellseg_mm.utils import UserError


def set_launcher(cfg: Config, launcher: str, local_rank: int) -> None:
    """Set the launcher as MMDetection's tools do. Without CUDA the processes communicate through gloo.

    MMEngine assumes a CUDA device in two places: it selects the device when it starts the process group, and names it
    when it wraps the model. Without CUDA we do both here.

    Raises:
        UserError: If no launcher started the process, or the launcher needs CUDA and the machine has no such device.
    """
    cfg.launcher = launcher
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UserError('--launcher pytorch: start the command by torchrun, see docs/distributed.md')
    if launcher == 'none' or torch.cuda.is_available():
        return
    if launcher != 'pytorch':
        raise UserError(f'--launcher {launcher}: needs CUDA devices; without them use torchrun and --launcher pytorch')
    torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
