"""Measuring for the benchmarks: each case in a process of its own, so that one's memory is not another's."""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable

import cellseg_mm  # noqa: F401  (before mmdet, whose import it keeps quiet)


def measure(function: Callable, repeats: int = 1, warm_up: int = 0) -> tuple:
    """Median seconds of a call, and the peak of resident memory above that at the start.

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
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(warm_up):
        function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sender.send((statistics.median(seconds), (peak - before) / 1024))


def print_table(header: list, rows: list) -> None:
    """A Markdown table with aligned columns."""
    cells = [header, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for index, row in enumerate(cells):
        print('| ' + ' | '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + ' |')
        if index == 0:
            print('|' + '|'.join('-' * (width + 1) + ':' for width in widths) + '|')
