import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def peak_mib(usage: object) -> float:
    """The peak of resident memory in MiB of ``getrusage`` or ``wait4``: macOS counts bytes, Linux KiB.

    Args:
        usage (struct_rusage): Or what has its ``ru_maxrss``.
    """
    return usage.ru_maxrss / (2**20 if sys.platform == 'darwin' else 2**10)


# mallopt's parameters, of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the next allocation, in place of giving large pieces back to the kernel.

    torch frees and allocates its large tensors with every operation. Each page that comes back from the kernel has to
    be filled with zeros: on the CPU that can take more time than the network itself. A user's own ``MALLOC_*``
    variables are left alone.

    Returns:
        bool: Whether that is set; it is not on other systems than Linux with glibc.
    """
    if not sys.platform.startswith('linux') or any(name.startswith('MALLOC_') for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


@contextmanager
def paused_garbage_collection() -> Iterator:
    """Within the block garbage collection is off; with tens of thousands of results it takes a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
