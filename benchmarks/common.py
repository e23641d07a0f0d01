"""Scenes and measuring for the benchmarks: each case runs in a process of its own, so that its memory is its own."""

import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

# MMEngine looks for CUDA when imported. With this the driver does not start, and forked processes can still use it.
os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')

from cellseg_mm.structures import encode_instances, instance_extents, write_layers
from cellseg_mm.utils import markdown_table, peak_mib


def make_case(folder: Path, size: int, cells: int, index: int = 0) -> dict:
    """An image with so many round cells on a jittered grid, stored as in a prepared data set; its data info.

    Args:
        folder (Path): Where image and id map are written.
        size (int): Height and width in px.
        cells (int): Their number.
        index (int): Which of the images of this size and number.
    """
    rng = np.random.default_rng([size, cells, index])
    side = int(np.ceil(np.sqrt(cells)))
    pitch = size / side
    instance_map = np.zeros((size, size), np.int32)
    for number, place in enumerate(rng.permutation(side * side)[:cells], start=1):
        row, col = (np.array(divmod(place, side)) + 0.5 + rng.uniform(-0.1, 0.1, 2)) * pitch
        cv2.circle(instance_map, (round(col), round(row)), round(min(0.38 * pitch, 14)), number, cv2.FILLED)
    image = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
    stem = folder / f'{size}_{cells}_{index}'
    cv2.imwrite(f'{stem}.png', image)
    write_layers(f'{stem}.tif', instance_map[None])
    boxes, areas = instance_extents(instance_map, np.arange(1, cells + 1))
    codes = encode_instances(instance_map, cells)
    entries = zip(boxes.tolist(), codes, areas.tolist(), strict=True)
    instances = [
        dict(bbox=box, bbox_label=0, ignore_flag=0, mask=code, instance_id=number, area=area)
        for number, (box, code, area) in enumerate(entries, start=1)
    ]
    return dict(
        img_path=f'{stem}.png',
        instance_map_path=f'{stem}.tif',
        height=size,
        width=size,
        instances=instances,
        img_id=index,
    )


def measure(function: Callable, repeats: int = 1, warm_up: int = 0) -> tuple:
    """Median seconds of a call, and the peak of resident memory above that at the start; on CUDA, torch's peak.

    Args:
        function (Callable): Without arguments; run in a forked process.
        repeats (int): Timed calls.
        warm_up (int): Calls before.

    Returns:
        tuple: Seconds, and MiB.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context('fork').Process(target=_measure, args=(function, repeats, warm_up, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError('a benchmark case failed, its trace is above') from None
    finally:
        process.join()


def _measure(function: Callable, repeats: int, warm_up: int, sender: object) -> None:
    before = peak_mib(resource.getrusage(resource.RUSAGE_SELF))
    for _ in range(warm_up):
        function()
    seconds = []
    for _ in range(repeats):
        start = clock()
        function()
        seconds.append(clock() - start)
    memory = peak_mib(resource.getrusage(resource.RUSAGE_SELF)) - before
    if torch.cuda.is_initialized():
        memory = torch.cuda.max_memory_allocated() / 2**20
    sender.send((statistics.median(seconds), memory))


def clock() -> float:
    """Seconds, after CUDA, if in use, has finished."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def print_table(header: list, rows: list) -> None:
    """Print a Markdown table with aligned columns."""
    print(markdown_table(header, rows))
