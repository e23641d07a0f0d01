import os

import torch
from mmengine.config import Config

from cellseg_mm.utils import UserError


def set_launcher(cfg: Config, launcher: str, local_rank: int) -> None:
    """As MMDetection's tools do; without CUDA, processes talk by gloo.

    mmengine assumes a CUDA device in two places, both of which are left to us then: it selects the device when it
    starts the process group, and names it when it wraps the model.

    Raises:
        UserError: If no launcher started the process, or one that needs CUDA where there is none.
    """
    cfg.launcher = launcher
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UserError('--launcher pytorch: start the command by torchrun, see docs/distributed.md')
    if launcher == 'none' or torch.cuda.is_available():
        return
    if launcher != 'pytorch':
        raise UserError(f'--launcher {launcher}: needs CUDA devices; without, let torchrun start the processes')
    torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
