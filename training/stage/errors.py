"""The error for what a person can mend: data, params or files that are wrong."""


class BadInput(ValueError):
    """Something that a person gave is wrong: the message says what, where, and what to do.

    Commands print it as one line and end with `exit_code`.
    """

    exit_code = 2
