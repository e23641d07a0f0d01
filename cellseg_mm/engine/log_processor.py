from mmdet.registry import LOG_PROCESSORS
from mmengine.runner import LogProcessor, Runner


@LOG_PROCESSORS.register_module()
class HeadlineLogProcessor(LogProcessor):
    """MMEngine's log processor, which prints only the main ones of a hundred metrics. The log files hold all.

    Args:
        headline (Sequence[str]): Names of the metrics to print after a validation or test.
        **kwargs: As for :class:`mmengine.runner.LogProcessor`.
    """

    def __init__(self, *, headline: tuple, **kwargs) -> None:
        super().__init__(**kwargs)
        self.headline = tuple(headline)

    def get_log_after_epoch(self, runner: Runner, batch_idx: int, mode: str, with_non_scalar: bool = False) -> tuple:
        """Return all scalars, and the line to print."""
        tag, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        shown = [f'{name}: {tag[name]:.{self.num_digits}f}' for name in self.headline if name in tag]
        return tag, f'{line.split("]  ")[0]}]  {"  ".join(shown)}' if shown else line
