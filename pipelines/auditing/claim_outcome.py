"""The outcome of one claim: refused, identical, or what the model says of it."""

from dataclasses import dataclass, field
from typing import Any

import imagehash
from PIL import Image

from photoproof import InvalidImage, PhotoproofError, StaleEmbedding, Verifier
from photoproof.pictures.identical import copy_reason
from photoproof.pictures.prepare import PreparedPicture, prepare
from photoproof.verdict import Verdict
from pipelines.auditing.originals import Original, embedding_row
from training.dataset.draws import hash_to_unit


@dataclass(frozen=True)
class Claim:
    """A photo that claims a product, as the database had it when it was taken."""

    photo_id: str
    product_id: str
    photo_sha256: str
    original_sha256: str | None
    image_bytes: bytes = field(repr=False)
    original: Original | None


@dataclass(frozen=True)
class ClaimOutcome:
    """What came of a claim: its row of `audits`, and rows of `verdicts` and `embeddings` where it has them."""

    audit: dict[str, Any]
    verdict: dict[str, Any] | None = None
    embedding: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """match, mismatch, review, identical or refused."""
        return self.verdict["outcome"] if self.verdict else "refused"


def verify_claim_or_error(
    verifier: Verifier, model_id: str, claim: Claim, sample_share: float
) -> ClaimOutcome | PhotoproofError:
    """`verify_claim`, with an error as a value."""
    try:
        return verify_claim(verifier, model_id, claim, sample_share)
    except PhotoproofError as error:
        return error


def verify_claim(verifier: Verifier, model_id: str, claim: Claim, sample_share: float) -> ClaimOutcome:
    """The outcome of one claim under a model.

    Raises what no picture causes: StaleEmbedding where another model serves by now, ServerUnavailable and the like.
    """
    original = claim.original
    if original is None or original.embedding is None or original.picture is None:
        no_original = f"the claimed product {claim.product_id} has no original"
        return _refused(claim, model_id, (original.error if original else None) or no_original, None)
    try:
        photo = prepare(claim.image_bytes, "photo")
    except InvalidImage as error:
        return _refused(claim, model_id, str(error), None)
    if photo.sha256 != claim.photo_sha256:
        return _refused(claim, model_id, "photo: its sha256 in the database is not that of its bytes", photo)
    copied = copy_reason(original.picture, photo)
    if copied is not None:
        audit = _audit_row(claim, "", "identical", copied, photo) | {"to_person": "identical"}
        return ClaimOutcome(audit, _verdict_row(claim, {"outcome": "identical", "reason": copied}))
    try:
        # What was prepared is what is sent: the client leaves an upright picture of this size as it is.
        verdict = verifier.compare(original.embedding, photo.image_bytes)
        embedding = None if verdict.outcome == "match" else verifier.encode(photo.image_bytes)
    except InvalidImage as error:
        return _refused(claim, model_id, str(error), photo)
    if verdict.model_id != model_id or (embedding and embedding.model_id != model_id):
        raise StaleEmbedding(f"model {verdict.model_id} serves by now, not {model_id}")
    sampled = hash_to_unit("live rates", model_id, claim.photo_id) < sample_share
    # A drawn review is asked as the others of the draw are: its decision counts in the live rates.
    why = "sample" if sampled else "review" if verdict.outcome == "review" else None
    audit = _audit_row(claim, model_id, "verified", verdict.reason, photo) | {"sampled": sampled, "to_person": why}
    row = embedding_row(claim.photo_sha256, embedding, photo) if embedding else None
    return ClaimOutcome(audit, _verdict_row(claim, _verdict_columns(verdict)), row)


def _verdict_columns(verdict: Verdict) -> dict[str, Any]:
    names = ("outcome", "similarity", "distance", "probability", "accept_at", "reject_at", "reason")
    return {name: getattr(verdict, name) for name in (*names, "model_name", "model_version", "model_id")}


def _verdict_row(claim: Claim, verdict: dict[str, Any]) -> dict[str, Any]:
    return verdict | {
        "photo_id": claim.photo_id,
        "claimed_product_id": claim.product_id,
        "original_sha256": claim.original_sha256,
        "photo_sha256": claim.photo_sha256,
    }


def _audit_row(claim: Claim, model_id: str, state: str, reason: str, photo: PreparedPicture | None) -> dict[str, Any]:
    return {
        "photo_id": claim.photo_id,
        "model_id": model_id,
        "state": state,
        "claimed_product_id": claim.product_id,
        "photo_sha256": claim.photo_sha256,
        "original_sha256": claim.original_sha256,
        "reason": reason,
        "perceptual_hash": str(imagehash.phash(Image.fromarray(photo.thumbnail))) if photo else None,
        "sampled": False,
        "to_person": None,
    }


def _refused(claim: Claim, model_id: str, reason: str, photo: PreparedPicture | None) -> ClaimOutcome:
    return ClaimOutcome(_audit_row(claim, model_id, "refused", reason, photo))
