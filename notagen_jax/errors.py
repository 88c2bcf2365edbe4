"""The one exception type that the command line turns into a message."""


class NotaGenError(Exception):
    """Something the user can mend: the message names the file, the place and the remedy."""
