"""Where a result comes from: commit, device, versions."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from mmengine.dist import master_only

from cellseg_mm.utils import PROJECT_ROOT, write_json

PACKAGES = ('torch', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'numpy', 'faster-coco-eval')


def provenance() -> dict:
    """Commit (``-dirty`` if files were changed since), device, and versions by package.

    Outside a git checkout the commit is the value of the environment variable ``CELLSEG_MM_COMMIT``, or None.
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {torch.get_num_threads()} threads'
    return dict(commit=_commit(), device=device, versions=dict(python=platform.python_version(), **_versions()))


@master_only
def record_provenance(log_dir: str) -> None:
    """Write :func:`provenance` beside a run's log as ``provenance.json``; only the first process writes."""
    write_json(Path(log_dir) / 'provenance.json', provenance())


def _commit() -> str | None:
    command = ['git', '-C', str(PROJECT_ROOT), 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get('CELLSEG_MM_COMMIT')


def _versions() -> dict:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # on the path without an installation
            found[name] = None
    return found
