"""The one type of error that a user can mend."""

import traceback


class UserError(Exception):
    """Something the user has to mend: its text names the value, what was expected and what to do.

    The library raises it, or a subclass; the command line prints the text alone and exits with 1.
    """


def describe(error: Exception) -> str:
    """An exception in a line; one without message, as of the hosts' assertions, by the statement that raised it."""
    message = str(error)
    if not message:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        message = f'"{frame.line}" in {frame.name}'
    return f'{type(error).__name__}: {message}'
