"""The one type of error that a user can mend."""


class UserError(Exception):
    """Something the user has to mend: its text names the value, what was expected and what to do.

    The library raises it, or a subclass; the command line prints the text alone and exits with 1.
    """
