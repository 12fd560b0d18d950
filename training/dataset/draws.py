"""Draws that are the same on every machine."""

import hashlib


def hash_to_unit(*words: str) -> float:
    """SHA-256 of the words as a number in [0, 1)."""
    digest = hashlib.sha256("\0".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
