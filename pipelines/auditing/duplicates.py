"""Near-duplicates among uploads: one picture that was sent for several claims."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sqlalchemy.engine import Connection

from pipelines.database.tables import audits, photos
from training.validation.near_duplicates import hash_values, near_pairs


@dataclass(frozen=True)
class Duplicates:
    """Photos that are one picture, each nearly equal to another of them."""

    photo_ids: tuple[str, ...]
    claims: tuple[str, ...]
    """The product that each photo claims, in the same order."""
    same_bytes: bool
    """All of them are the same file."""

    @property
    def products(self) -> int:
        """How many products they claim: more than one is one photo used for two claims."""
        return len(set(self.claims))


def find_duplicates(connection: Connection, distance: int) -> list[Duplicates]:
    """Groups of claims whose photos are the same bytes, or whose perceptual hashes differ in few of 64 bits.

    Those that claim the most products come first. Memory: a few dozen bytes a photo, no picture is read.
    """
    hashed = (
        sa.select(audits.c.photo_id, audits.c.photo_sha256, sa.func.max(audits.c.perceptual_hash).label("hash"))
        .group_by(audits.c.photo_id, audits.c.photo_sha256)
        .subquery()
    )
    claiming = (
        sa.select(photos.c.photo_id, photos.c.claimed_product_id, photos.c.sha256, hashed.c.hash)
        .outerjoin(hashed, (hashed.c.photo_id == photos.c.photo_id) & (hashed.c.photo_sha256 == photos.c.sha256))
        .where(photos.c.claimed_product_id.is_not(None))
        .order_by(photos.c.photo_id)
        .execution_options(yield_per=2000)
    )
    ids, claims, sums, hashes = [], [], [], []
    for row in connection.execute(claiming):
        ids.append(row.photo_id)
        claims.append(row.claimed_product_id)
        sums.append(row.sha256)
        hashes.append(row.hash)
    groups = [
        Duplicates(
            tuple(ids[place] for place in places),
            tuple(claims[place] for place in places),
            len({sums[place] for place in places}) == 1,
        )
        for places in group_alike(sums, hashes, distance)
    ]
    return sorted(groups, key=lambda group: (-group.products, -len(group.photo_ids), group.photo_ids))


def group_alike(sums: Sequence[str], hashes: Sequence[str | None], distance: int) -> list[list[int]]:
    """Groups of at least two places of equal sums, or of hashes (hexadecimal) that differ in at most so many bits."""
    _, by_sum = np.unique(np.asarray(sums, str), return_inverse=True)
    hashed = np.array([place for place, value in enumerate(hashes) if value is not None], int)
    edges = [_edges_of_equals(by_sum)]
    if len(hashed):
        values, by_hash = np.unique(hash_values(hashes[place] or "0" for place in hashed), return_inverse=True)
        edges.append(hashed[_edges_of_equals(by_hash)])
        first = np.zeros(len(values), int)
        first[by_hash[::-1]] = hashed[::-1]
        edges.append(first[near_pairs(values, distance)])
    pairs = np.concatenate(edges, axis=1)
    graph = coo_matrix((np.ones(pairs.shape[1], bool), tuple(pairs)), (len(sums), len(sums)))
    groups: dict[int, list[int]] = {}
    for place, group in enumerate(connected_components(graph, directed=False)[1]):
        groups.setdefault(group, []).append(place)
    return [places for places in groups.values() if len(places) > 1]


def _edges_of_equals(group: np.ndarray) -> np.ndarray:
    """Int [2, n]: each place and the next one of its group."""
    order = np.argsort(group, kind="stable")
    same = group[order][:-1] == group[order][1:]
    return np.stack([order[:-1][same], order[1:][same]])
