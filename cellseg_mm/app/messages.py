"""Messages in the page."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from cellseg_mm.utils import UserError


def in_page(message: str) -> gr.Error:
    """A message that stays in the page until the visitor closes it."""
    return gr.Error(message, duration=None, print_exception=False)


@contextlib.contextmanager
def errors_in_page(*folders: Path) -> Iterator:
    """Within the block, mistakes and failed writing become messages in the page.

    Args:
        folders (Path): Where the server keeps the files; the messages do not show it.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
        for folder in folders:
            message = message.replace(f'{folder}/', '')
        raise in_page(message) from error
    except OSError as error:
        name = f'{Path(error.filename).name}: ' if error.filename else ''
        raise in_page(
            f'{name}not saved ({error.strerror or error}). What was saved before is kept. Mend this on the '
            'machine that runs the app, then try again.'
        ) from error
