import json
from pathlib import Path

from mmengine.config import Config

from cellseg_mm.engine.detector import input_pipeline
from cellseg_mm.models.detector_config import normalisation
from cellseg_mm.utils.config import flatten
from cellseg_mm.version import __version__


def metadata(cfg: Config, checkpoint: dict) -> dict:
    """The metadata of a file of weights, a JSON text for each key.

    Args:
        cfg (Config): From :func:`checkpoint_config`.
        checkpoint (dict): From :func:`read_checkpoint`.
    """
    mean, std = normalisation(cfg.model)
    entries = dict(
        cellseg_mm=__version__,
        config=_without_places(cfg).pretty_text,
        classes=checkpoint['meta']['dataset_meta']['classes'],
        mean=mean,
        std=std,
        channel_order=cfg.get('channel_order'),
        pixel_size=cfg.get('pixel_size'),
        resize=input_sizes(cfg),
        mask_thr_binary=dict(flatten(cfg.model)).get('test_cfg.rcnn.mask_thr_binary'),
        operating_point=checkpoint['meta'].get('operating_point'),
        input_scale=checkpoint['meta'].get('input_scale'),
    )
    return {key: json.dumps(value) for key, value in entries.items()}


def _without_places(cfg: Config) -> Config:
    """A config with absolute paths cut to their last part, because they hold on the machine of the training only."""

    def cut(value: object) -> object:
        if isinstance(value, dict):
            return {key: cut(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(cut(entry) for entry in value)
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return Config(cut(cfg.to_dict()))


def input_sizes(cfg: Config) -> list | None:
    """The two sizes into which the test pipeline fits an image, the longer side into the larger one; None without."""
    for step in input_pipeline(cfg):
        if step.type == 'Resize' and step.get('keep_ratio') and step.get('scale'):
            return list(step.scale)
    return None
