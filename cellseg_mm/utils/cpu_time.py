import psutil


def cpu_seconds() -> float:
    """CPU time of this process and its descendants, those that have ended included, in seconds of one core."""
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:  # it ended meanwhile: its parent counts its time at the next call
            continue
        # the time of ended children is known to their parent; Windows does not keep it
        total += times.user + times.system + getattr(times, 'children_user', 0) + getattr(times, 'children_system', 0)
    return total
