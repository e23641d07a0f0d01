"""Errors a user can mend, told in one line."""

import functools
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in the input: the message says what, where, and what to do, in one line."""


def one_line_errors(main: Callable) -> Callable:
    """Decorator for a tool's ``main``: a :class:`UserError` is printed as one line, exit status 2, without a trace."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            # a data worker's error arrives with the worker's trace before it
            message = str(error).rsplit('UserError: ', 1)[-1].strip()
            print(f'error: {message}', file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print('stopped', file=sys.stderr)
            sys.exit(130)

    return wrapper
