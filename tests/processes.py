"""Scripts in processes of their own, forked by a server that has imported what they need: a start costs no import.

The server has run nothing: what a process keeps of a run (mmengine's log, torch's threads) is new in each.
"""

import gc
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from yapf.yapflib import yapf_api

# half a second for each config that is written, only for its look
yapf_api.FormatCode = lambda text, **_: (text, True)

context = multiprocessing.get_context('forkserver')
context.set_forkserver_preload(['cellseg_mm', 'mmengine.runner'])
NOWHERE = Path(os.devnull)


def _run(command: list, folder: str, environment: dict, stdout: Path, stderr: Path) -> None:
    """As ``python SCRIPT ARGUMENTS`` runs, with one thread and in a session of its own."""
    gc.freeze()  # as conftest.py does
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, stdout), (2, stderr)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    multiprocessing.set_start_method(None, force=True)  # the default, as in a process that nobody forked
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background of a shell
    torch.set_num_threads(1)
    sys.argv = command
    sys.path.insert(0, os.path.dirname(command[0]))
    runpy.run_path(command[0], run_name='__main__')


def start_script(
    script: Path, *arguments: object, folder: Path, stdout: Path = NOWHERE, stderr: Path = NOWHERE, **environment: str
) -> BaseProcess:
    """Start a script in ``folder``. Its process leads a group, so that ``os.killpg`` ends what it started too."""
    command = [str(script), *map(str, arguments)]
    process = context.Process(target=_run, args=(command, str(folder), {**os.environ, **environment}, stdout, stderr))
    process.start()
    return process


def run_script(
    script: Path, *arguments: object, folder: Path, ranks: int = 1, timeout: float = 900
) -> subprocess.CompletedProcess:
    """Run a script to its end.

    Args:
        script (Path): A Python file.
        *arguments (object): Its arguments.
        folder (Path): Its working directory.
        ranks (int): Processes, with the environment that torchrun gives to each if there are several.
        timeout (float): Seconds until it is killed.

    Returns:
        subprocess.CompletedProcess: With the first exit status that is not 0, and what all processes printed.
    """
    with tempfile.TemporaryDirectory() as logs:
        stdout, stderr = (Path(logs) / name for name in ('stdout', 'stderr'))
        stdout.touch(), stderr.touch()
        processes = [
            start_script(script, *arguments, folder=folder, stdout=stdout, stderr=stderr, **environment)
            for environment in _environments(ranks)
        ]
        end = time.monotonic() + timeout
        while running := [process for process in processes if process.exitcode is None]:
            failed = any(process.exitcode for process in processes)
            if failed or time.monotonic() > end:
                for process in running:  # they wait for the one that failed
                    process.kill()
            connection.wait([process.sentinel for process in running], 1)
        printed = stdout.read_text('utf-8', 'replace'), stderr.read_text('utf-8', 'replace')
    status = next((process.exitcode for process in processes if process.exitcode), 0)
    return subprocess.CompletedProcess([script, *arguments], status, *printed)


def _environments(ranks: int) -> list:
    """What torchrun adds to the environment of each process."""
    if ranks == 1:
        return [{}]
    with socket.socket() as bound:
        bound.bind(('127.0.0.1', 0))
        port = bound.getsockname()[1]  # free
    shared = dict(WORLD_SIZE=str(ranks), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    return [dict(shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(ranks)]
