"""Errors that a user can mend, in one line."""

import errno
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class UserError(Exception):
    """A mistake in the input: the message says what, where, and what to do, in one line."""


def explain(error: BaseException) -> str | None:
    """What an error means and what to do about it, in one line; None for an unknown error."""
    text = str(error)
    if isinstance(error, UserError):
        return text.rsplit('UserError: ', 1)[-1].strip()  # from a data worker it comes behind the worker's trace
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f'{error.filename or "output"}: no space left on the disk. Earlier files are whole: free some space, then '
            'continue (with --resume, if the tool has it)'
        )
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f'the GPU is out of memory ({text.split(". ")[0]}): lower train_dataloader.batch_size, the size in the '
            "pipelines' Resize or crop, or model.train_cfg.rpn_proposal.max_per_img (--cfg-options key=value)"
        )
    if isinstance(error, MemoryError):
        return f'out of memory ({text}): lower num_workers, batch_size, or the size of the images'
    if isinstance(error, RuntimeError) and text.startswith('DataLoader worker'):
        return (
            f'{text.splitlines()[0].rstrip(".")}: a data worker died, usually because memory ran out; lower '
            'train_dataloader.num_workers (--cfg-options key=value), then continue (with --resume, if the tool has it)'
        )
    return None


def one_line_errors(main: Callable | None = None, *, stopped: str = 'stopped') -> Callable:
    """Decorator for a tool's ``main``: print errors that :func:`explain` knows in one line and exit with status 2.

    SIGTERM stops the tool as Ctrl-C does, so that it ends its workers and removes unfinished files.

    Args:
        main (Callable): The function.
        stopped (str): What Ctrl-C prints, such as how to continue.
    """
    if main is None:
        return functools.partial(one_line_errors, stopped=stopped)

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        try:
            with _sigterm_as_ctrl_c():
                return main(*args, **kwargs)
        except (KeyboardInterrupt, Exception) as error:
            if _is_interrupt(error):
                print(stopped, file=sys.stderr)
                sys.exit(130)
            reason = explain(error)
            if reason is None:
                raise
            print(f'error: {reason}', file=sys.stderr)
            sys.exit(2)

    return wrapper


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator:
    """Within the block SIGTERM raises KeyboardInterrupt, unless it is handled already.

    Not in the processes of torchrun: one that waits for the others, outside of Python, would not end.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL or 'RANK' in os.environ:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused it, also where a library made another error of it, as MMEngine does in writing a config."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
