"""An ablation as an experiment: rows that may differ in what they declare, runs that accumulate, one table.

::

    OUT/runs/ROW-DIGEST/seed_K/config.py          # the whole config of the run
                               train/ test/       # work dirs of tools/train.py and tools/test.py
                               trained.json       # written when training has ended
                               result.json        # metrics, evidence and where they come from: the run is finished
    OUT/schedule.json                          # of --budget, see budget.py
    OUT/ablation.{md,csv,json,png}
"""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from cellseg_mm.evaluation import Evidence, gather_evidence, read_results, read_tested
from cellseg_mm.models.detector_config import backbone_weights, forget_pretrained
from cellseg_mm.utils import (
    PROJECT_ROOT,
    UserError,
    diff_configs,
    locked,
    peak_mib,
    read_json,
    write_atomically,
    write_json,
)
from cellseg_mm.utils.config import ABLATION_VARIABLE
from cellseg_mm.visualization import read_scalars

from .checkpoint import best_checkpoint, epochs_done, latest_checkpoint, read_checkpoint
from .provenance import provenance

# where a run is and how it resumes, not what it computes
NOT_IN_DIGEST = ('work_dir', 'data_root', 'launcher', 'resume', 'randomness', 'tta_model', 'num_threads')
NOT_IN_DIGEST += (ABLATION_VARIABLE,)
ORIGIN = 'a run writes this file; delete it to run that part again'


@dataclass(frozen=True)
class Row:
    """A row of the ablation.

    Attributes:
        name: The name of its config file.
        cfg: The whole config, ready for training, see :func:`cellseg_mm.engine.run_config.training_config`.
        digest: Covers the config without its seed, and the prepared set's annotations.
    """

    name: str
    cfg: Config
    digest: str

    @classmethod
    def of(cls, config_path: str, cfg: Config) -> 'Row':
        """The row of a config file."""
        return cls(Path(config_path).stem, cfg, config_digest(cfg))

    def folder(self, out: Path) -> Path:
        """The folder of its runs."""
        return out / 'runs' / f'{self.name}-{self.digest}'


def config_digest(cfg: Config) -> str:
    """Twelve hexadecimal digits that distinguish runs; the same on another machine, and for every seed.

    It covers all keys of the config but :data:`NOT_IN_DIGEST`, and the content of the prepared set's annotations and
    statistics. Paths below the prepared set count without its location; backbone weights by their file's name.

    Args:
        cfg (Config): With an absolute ``data_root``.
    """
    root = Path(cfg.data_root)
    content = {key: value for key, value in cfg.to_dict().items() if key not in NOT_IN_DIGEST}
    text = json.dumps(content, sort_keys=True, default=str).replace(json.dumps(str(root))[1:-1], 'DATA')
    weights = backbone_weights(cfg.model)
    if weights:
        text = text.replace(json.dumps(weights)[1:-1], Path(weights).name)
    digest = hashlib.sha256(text.encode())
    for path in sorted([*root.glob('annotations/*.json'), root / 'statistics.json']):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def check_comparable(rows: list) -> None:
    """Refuse rows if one differs from the row above in more than it declares.

    Args:
        rows (list[Row]): From the first to the last.

    Raises:
        UserError: For the first such key, or for a row that is given twice.
    """
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f'{name}: given twice; a row is known by the name of its config')
    for above, row in itertools.pairwise(rows):
        declared = list(row.cfg.get(ABLATION_VARIABLE, []))
        for key, old, new in diff_configs(above.cfg.to_dict(), row.cfg.to_dict()):
            inside = any(key == prefix or key.startswith((f'{prefix}.', f'{prefix}[')) for prefix in declared)
            if key != 'work_dir' and not inside:
                raise UserError(
                    f'{row.name} differs from {above.name} in {key} ({old!r} -> {new!r}), which is not in its '
                    f'{ABLATION_VARIABLE} = {declared}; rows that differ in more than that cannot be compared'
                )


def run_row(row: Row, seed: int, out: Path, on_epoch: Callable) -> None:
    """Train and test a row with a seed. A finished run is skipped, an interrupted one resumes.

    Args:
        row (Row): The row; the seed replaces its config's.
        seed (int): Seed of the run.
        out (Path): Folder of the ablation.
        on_epoch (Callable): Called now and then with the number of finished epochs.

    Raises:
        UserError: If training or testing fails, or another process works on this run.
    """
    folder = row.folder(out) / f'seed_{seed}'
    if (folder / 'result.json').exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / 'lock', busy=f'{folder}: another process trains this run; wait for it or stop it') as lock:
        cfg = Config(row.cfg.to_dict())
        cfg.randomness.seed = seed
        cfg.work_dir = str(folder / 'train')
        processes = cfg.get('num_processes', 1)
        write_atomically(folder / 'config.py', cfg.pretty_text)
        if not (folder / 'trained.json').exists():
            command = ['train', folder / 'config.py', '--work-dir', folder / 'train', '--resume']
            peak = run_tool(
                command, folder / 'train.log', lock, lambda: on_epoch(epochs_done(folder / 'train')), processes
            )
            write_json(folder / 'trained.json', dict(peak_rss_mib=peak, **provenance()))
        best = best_checkpoint(folder / 'train')
        if best is None:
            raise UserError(f'{folder}: training kept no best checkpoint, because no epoch was validated')
        command = ['test', folder / 'config.py', best, '--work-dir', folder / 'test']
        command += ['--out', folder / 'test/predictions.json']
        run_tool(command, folder / 'test.log', lock, lambda: None, processes)
        write_json(folder / 'result.json', _result(row, seed, folder, best))


def run_tool(command: list, log: Path, lock: object, poll: Callable, processes: int = 1) -> float:
    """Run a tool of the project to its end.

    Args:
        command (list): The tool's name and its arguments.
        log (Path): File to which its output is appended.
        lock (file): Inherited by the tool, so that the lock holds if the tool outlives this process.
        poll (Callable): Called twice a second.
        processes (int): Number of processes; torchrun starts them if there is more than one.

    Returns:
        float: Its peak of resident memory in MiB; of several processes the largest.

    Raises:
        UserError: If it fails, with the tool's own message.
    """
    tool, *arguments = map(str, command)
    torchrun = []
    if processes > 1:
        torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(processes)]
        arguments += ['--launcher', 'pytorch']
    with open(log, 'a') as output:
        begin = output.tell()
        process = subprocess.Popen(
            [sys.executable, *torchrun, str(PROJECT_ROOT / 'tools' / f'{tool}.py'), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno()],
        )
        try:
            while True:
                done, status, usage = os.wait4(process.pid, os.WNOHANG)
                if done:
                    break
                poll()
                time.sleep(0.5)
        except BaseException:
            process.terminate()  # torchrun ends its processes then
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        printed = log.read_bytes()[begin:].decode('utf-8', 'replace')
        errors = re.findall(r'^error: (.*)$', printed, re.MULTILINE)
        raise UserError(f'tools/{tool}.py failed: {errors[-1] if errors else "no message"}; its log is {log}')
    return peak_mib(usage)


def epochs_of(row: Row, seed: int, out: Path) -> int:
    """Epochs that a run has done: all of them if it is finished, even if only its result was kept."""
    folder = row.folder(out) / f'seed_{seed}'
    if (folder / 'result.json').exists():
        return row.cfg.train_cfg.max_epochs
    return epochs_done(folder / 'train')


def _result(row: Row, seed: int, folder: Path, best: Path) -> dict:
    """The content of ``result.json``: enough for tables and intervals without data and checkpoints."""
    metrics = read_json(folder / 'test/test_metrics.json', ORIGIN)
    ground_truth = read_tested(row.cfg.test_dataloader.dataset)
    evidence = gather_evidence(ground_truth, read_results(folder / 'test/predictions.json'), metrics['cells/score_thr'])
    trained = read_json(folder / 'trained.json', ORIGIN)
    train, _ = read_scalars(folder / 'train')
    last = latest_checkpoint(str(folder / 'train')) or str(best)
    on_cuda = 'memory' in train
    return dict(
        row=row.name,
        seed=seed,
        digest=row.digest,
        test_images=[image['file_name'] for image in ground_truth['images']],
        figures={name.removeprefix('cells/'): value for name, value in metrics.items()},
        parameters=count_parameters(row.cfg),
        checkpoint_mib=best.stat().st_size / 2**20,
        core_hours=read_checkpoint(last)['meta'].get('core_hours'),  # None in runs of older versions
        seconds_an_epoch=_seconds_an_epoch(train, read_checkpoint(str(best))['meta']),
        peak_memory_mib=max(train['memory'].values()) if on_cuda else trained['peak_rss_mib'],
        peak_memory_of='CUDA' if on_cuda else 'process',
        trained_by={key: trained[key] for key in ('commit', 'device', 'versions')},
        tested_by=provenance(),
        evidence=evidence.to_dict(),
    )


def count_parameters(cfg: Config) -> int:
    """The number of parameters of the detector."""
    init_default_scope('mmdet')
    model = Config(cfg.model.to_dict())
    forget_pretrained(model)
    return sum(parameter.numel() for parameter in MODELS.build(model).parameters())


def _seconds_an_epoch(train: dict, meta: dict) -> float:
    """The mean, from the logged seconds of an iteration. It includes data loading and not validation."""
    return float(np.mean(list(train['time'].values())) * meta['iter'] / meta['epoch'])


def read_runs(rows: list, out: Path) -> dict:
    """All finished runs of the rows, including those of earlier days and other machines.

    Returns:
        dict[str, list]: Name of a row to the contents of its ``result.json`` files, ordered by seed; ``evidence`` is
        an :class:`Evidence`.

    Raises:
        UserError: If rows were tested on different images.
    """
    runs = {}
    for row in rows:
        paths = row.folder(out).glob('seed_*/result.json')
        found = [read_json(path, ORIGIN) for path in paths]
        runs[row.name] = sorted(found, key=lambda run: run['seed'])
        for run in runs[row.name]:
            run['evidence'] = Evidence.from_dict(run['evidence'])
    tested = {tuple(run['test_images']) for found in runs.values() for run in found}
    if len(tested) > 1:
        raise UserError(f'{out}: its runs were tested on different images; give each test set a folder of its own')
    return runs
