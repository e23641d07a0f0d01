import sys


def peak_mib(usage: object) -> float:
    """The peak of resident memory in MiB of ``getrusage`` or ``wait4``: macOS counts bytes, Linux KiB.

    Args:
        usage (struct_rusage): Or what has its ``ru_maxrss``.
    """
    return usage.ru_maxrss / (2**20 if sys.platform == 'darwin' else 2**10)
