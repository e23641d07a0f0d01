"""The shipped models, each a file beside this one. docs/models.md has their cards.

To add one, write its file by ``tools/deploy.py CHECKPOINT --half --out cellseg_mm/weights/NAME.safetensors``, and put
the SHA-256 that it prints into :data:`MODELS`.
"""

from dataclasses import dataclass
from pathlib import Path

from mmengine.dist import is_main_process

from cellseg_mm.utils import UserError, check_digest

FOLDER = Path(__file__).parent
CHECKPOINTS = ('.pth', '.safetensors')  # endings of files that users name
DEFAULT = 'consep-lite0'


@dataclass(frozen=True)
class ShippedModel:
    """A shipped model.

    Attributes:
        notice: What it was trained on and what it may be used for, in one line.
        digest: SHA-256 of its file, hexadecimal; None while there is no file.
        pixel_size: Micrometres a px of its training images where its file does not say it; None if unknown.
    """

    notice: str
    digest: str | None = None
    pixel_size: float | None = None


# CoNSeP is at 40x (Graham et al.); TIAToolbox, of the same group, shows images to its models of CoNSeP at 0.25
# micrometres a px (`IOConfig` of hovernet_original-consep in its docs/pretrained.rst).
CONSEP_PIXEL_SIZE = 0.25

MODELS = {
    'consep-lite0': ShippedModel(
        'four classes of cells, trained on CoNSeP (Graham et al., Medical Image Analysis 58 (2019) 101563) and on CC0 '
        'images of other tissue: for research only',
        '31936b6a46400c705dad0a641ec65a5d896383456a79a638fdd8471aee87c4b9',
        CONSEP_PIXEL_SIZE,  # of the images with classes; that of the others is unknown
    ),
    'consep-lite0-wide': ShippedModel(
        'four classes of cells, trained longer on CoNSeP (Graham et al., Medical Image Analysis 58 (2019) 101563), '
        'for tissue like its own: for research only',
        'ed43ce53eca89221517431047f0e264f2b7d8d50196be36a60f364c9b4f3085f',
        CONSEP_PIXEL_SIZE,
    ),
    'nuclei-lite0': ShippedModel(
        'nuclei, trained on CC0 images of the Data Science Bowl 2018 from ImageNet weights (Apache-2.0): for any use',
        '95422f3b0698d49aaac9b6d4a32cdf42fc3abca2fb2a48c5efd215549d5cbefb',
    ),
}


def shipped_models() -> list:
    """Names of the models whose files this version has, the default one first."""
    names = [name for name, model in MODELS.items() if model.digest]
    return sorted(names, key=lambda name: name != DEFAULT)


def model_file(name: str) -> Path:
    """The file of a shipped model, after its SHA-256 was compared.

    Args:
        name (str): One of :func:`shipped_models`.

    Raises:
        UserError: If there is no such model, or its file is missing or changed.
    """
    names = shipped_models()
    if name not in names:
        state = 'this model is not part of this version yet' if name in MODELS else 'no shipped model has this name'
        choice = f'choose from {", ".join(names)}, or give' if names else 'give'
        raise UserError(f'{name}: {state}; {choice} a checkpoint, which ends in {" or ".join(CHECKPOINTS)}')
    path = FOLDER / f'{name}.safetensors'
    if not path.is_file():
        raise UserError(f'{path}: missing from the installed package; install cellseg_mm anew')
    if check_digest(path) != MODELS[name].digest:
        raise UserError(f'{path}: changed since it was shipped (another SHA-256); install cellseg_mm anew')
    return path


def shipped_pixel_size(path: str | Path) -> float | None:
    """Micrometres a px of the training images of a shipped model, by its file; None if unknown, or for another file."""
    path = Path(path)
    is_shipped = path.stem in MODELS and path.resolve() == (FOLDER / f'{path.stem}.safetensors').resolve()
    return MODELS[path.stem].pixel_size if is_shipped else None


def is_model_name(checkpoint: str) -> bool:
    """Whether a checkpoint is named as a shipped model is: not a path, without an ending of :data:`CHECKPOINTS`, and
    nothing of that name is there."""
    path = Path(checkpoint).expanduser()
    return not checkpoint.endswith(CHECKPOINTS) and path.name == checkpoint and not path.exists()


def find_checkpoint(checkpoint: str | Path | None = None) -> str:
    """The file to load: a checkpoint, or that of a shipped model, whose notice the main process then prints.

    Args:
        checkpoint (str | Path | None): A file, or the name of a model, see :func:`is_model_name`; the default model if
            None.

    Raises:
        UserError: See :func:`model_file`.
    """
    name = DEFAULT if checkpoint is None else str(checkpoint)
    if not is_model_name(name):
        return name
    path = model_file(name)
    if is_main_process():
        print(f'model {name}: {MODELS[name].notice}', flush=True)
    return str(path)
