"""The detector that a checkpoint holds, built from the config that stands in it as text."""

import copy

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from cellseg_mm.utils import UserError, load_config, parse_config_text
from cellseg_mm.utils.config import flatten

from . import run_setup


def checkpoint_config(checkpoint: dict, path: str, config: str | None = None) -> Config:
    """The config that a checkpoint carries, or another one with the checkpoint's classes and normalisation put in.

    Args:
        checkpoint (dict): Of :func:`read_checkpoint`.
        path (str): Its file, for messages.
        config (str | None): A config file.

    Raises:
        UserError: If the checkpoint carries none, or one that names other than registered parts; or if there is no
            such file.
    """
    facts = run_setup.checkpoint_data_facts(checkpoint, path)
    own = parse_config_text(checkpoint['meta']['cfg'])
    if config is None:
        _check_types(own, path)
        return Config(own)
    cfg = load_config(config)
    run_setup.set_data_facts(cfg, **facts)
    cfg.channel_order = own.get('channel_order')
    return cfg


def _check_types(config: dict, path: str) -> None:
    """MMEngine would import and call whatever a dotted ``type`` names."""
    for key, value in flatten(config):
        if key.rsplit('.', 1)[-1] == 'type' and '.' in str(value):
            raise UserError(
                f'{path}: its config names {value} ({key}), which may be any program; if you trust it, give its config '
                'by --config'
            )


def build_detector(cfg: Config) -> torch.nn.Module:
    """The detector of a config on the CPU, in eval mode, without weights."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(copy.deepcopy(cfg.model)).eval()  # mmdet's constructors change what they are given
