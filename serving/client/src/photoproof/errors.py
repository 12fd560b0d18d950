"""What can go wrong, as one tree.

    PhotoproofError
    ├── InvalidImage        a picture that can't be used; `reason` says why, `picture` which one
    ├── ServerUnavailable   nobody answers, or the server stays too busy to
    ├── DeadlineExceeded    no answer within the time given
    ├── ModelNotFound       the server has no such model, version or label
    │   └── UnfitModel      there is one, but it lacks what a verdict needs; `missing` names it
    ├── StaleEmbedding      an embedding of another model than the one that serves
    └── ServerError         the server refused, or its answer is invalid

Each class carries `exit_code`, with which the command line ends.
"""

from __future__ import annotations


class PhotoproofError(Exception):
    """Anything that this package raises on purpose."""

    exit_code = 1


class InvalidImage(PhotoproofError):
    """A picture that can't be used: not an image, truncated, too small, too large."""

    exit_code = 2

    def __init__(self, reason: str, picture: str = "picture"):
        """`reason` completes the sentence "PICTURE: ..."; `picture` is a path or a role such as "photo"."""
        super().__init__(reason, picture)
        self.reason = reason
        self.picture = picture

    def __str__(self) -> str:
        return f"{self.picture}: {self.reason}"


class ServerUnavailable(PhotoproofError):
    """The model server can't be reached or stays too busy to answer."""

    exit_code = 6


class DeadlineExceeded(PhotoproofError):
    """The model server did not answer within the time given."""

    exit_code = 6


class ModelNotFound(PhotoproofError):
    """The server has no such model, version or label."""

    exit_code = 7


class UnfitModel(ModelNotFound):
    """The model that serves lacks what a verdict needs."""

    def __init__(self, model: str, missing: tuple[str, ...]):
        """`missing` names each signature, input or output that is missing or not of the type needed."""
        super().__init__(model, missing)
        self.model = model
        self.missing = missing

    def __str__(self) -> str:
        return f"{self.model} is not a Photoproof model: {'; '.join(self.missing)}"


class StaleEmbedding(PhotoproofError):
    """An embedding made by another model than the one that serves now: encode the original again."""

    exit_code = 2


class ServerError(PhotoproofError):
    """The server refused the call, or its answer is invalid."""
