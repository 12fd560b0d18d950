"""Does this photo show that product? A thin client for Photoproof models on TensorFlow Serving.

    from photoproof import Verifier
    with Verifier("grpc://localhost:8500") as verifier:
        print(verifier.verify("original.jpg", "photo.jpg").outcome)

It needs neither TensorFlow nor anything else of the application that trains the models.
"""

from photoproof.async_verifier import AsyncVerifier
from photoproof.errors import (
    DeadlineExceeded,
    InvalidImage,
    ModelNotFound,
    PhotoproofError,
    ServerError,
    ServerUnavailable,
    StaleEmbedding,
    UnfitModel,
)
from photoproof.pictures.prepare import PictureSource
from photoproof.transport.calls import VersionStatus
from photoproof.verdict import Embedding, Outcome, ServerStatus, Verdict
from photoproof.verifier import Verifier

__all__ = [
    "AsyncVerifier",
    "DeadlineExceeded",
    "Embedding",
    "InvalidImage",
    "ModelNotFound",
    "Outcome",
    "PhotoproofError",
    "PictureSource",
    "ServerError",
    "ServerStatus",
    "ServerUnavailable",
    "StaleEmbedding",
    "UnfitModel",
    "Verdict",
    "Verifier",
    "VersionStatus",
]
