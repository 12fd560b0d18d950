"""The versions that name a forgotten picture, wherever they are kept, and the versions that replace them."""

import csv
import hashlib
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.data.difference import Counts
from pipelines.data.object_stores import Store, build_version
from training.dataset import releases
from training.dataset.manifest import write_manifest
from training.stage.places import MANIFEST


@dataclass
class NamedVersion:
    """A version as some store keeps it, and those of its rows that may be forgotten."""

    rows: pd.DataFrame
    stores: list[Store]


@dataclass
class Successor:
    """What replaces a version."""

    oid: str
    objects: dict[str, bytes]
    replaced: dict[str, str | None]
    """The objects of its lists (the manifest, released.csv) -> those that replace them."""
    counts: Counts
    """How many pictures it lacks, and how many it has."""
    files_fewer: int
    bytes_fewer: int


def find_versions(places: list[Store], listings: dict[str, dict[str, int]], wanted: str) -> dict[str, NamedVersion]:
    """Every data version that any store keeps, with its rows of the wanted id: as a photo, an original, a product."""
    versions: dict[str, NamedVersion] = {}
    for store in places:
        for oid in sorted(listings[store.name]):
            if not oid.endswith(".dir"):
                continue
            if oid in versions:
                versions[oid].stores.append(store)
                continue
            if not (entries := store.read_version(oid)):
                continue
            named = (pc.field("picture_id") == wanted) | (pc.field("product_id") == wanted)
            for place in places:
                has_manifest = entries[MANIFEST] in listings[place.name]
                manifest = place.read_manifest(entries[MANIFEST]) if has_manifest else None
                if manifest is not None:
                    versions[oid] = NamedVersion(manifest.filter(named).to_pandas(), [store])
                    break
    return versions


def select_rows(version: NamedVersion, products: frozenset[str], photos: frozenset[str]) -> NamedVersion | None:
    """The version with only the rows that are to be forgotten; None where it has none of them."""
    rows = version.rows.loc[_mask(version.rows, products, photos)]
    return None if rows.empty else NamedVersion(rows, version.stores)


def _mask(rows: pd.DataFrame, products: frozenset[str], photos: frozenset[str]) -> pd.Series:
    original = rows.role == "original"
    return original & rows.picture_id.isin(products) | ~original & rows.picture_id.isin(photos)


def find_objects(
    places: list[Store], listings: dict[str, dict[str, int]], named: dict[str, NamedVersion]
) -> tuple[set[str], set[str]]:
    """The pictures' objects that no other picture of any version has too, and the paths of such other pictures."""
    paths = {path for version in named.values() for path in version.rows.path}
    objects: set[str] = set()
    for oid, version in named.items():
        entries = version.stores[0].read_entries(oid) or {}
        objects |= {entries[path] for path in version.rows.path if path in entries}
    kept_by: dict[str, str] = {}
    seen: set[str] = set()
    for store in places if objects else ():
        for oid in sorted(listings[store.name].keys() - seen):
            if entries := store.read_version(oid):
                seen.add(oid)
                kept_by |= {entry: path for path, entry in entries.items() if entry in objects and path not in paths}
    return objects - kept_by.keys(), set(kept_by.values())


def make_successor(
    places: list[Store],
    oid: str,
    version: NamedVersion,
    sizes: dict[str, int],
    products: frozenset[str],
    photos: frozenset[str],
) -> Successor:
    """The version without them."""
    entries = version.stores[0].read_version(oid)
    manifests = (store.read_manifest(entries[MANIFEST]) for store in places)
    before = next(manifest for manifest in manifests if manifest is not None)
    rest = _without(before, products, photos)
    gone = set(version.rows.path)
    left = {path: entry for path, entry in entries.items() if path not in gone}
    objects: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_manifest(rest, folder / MANIFEST)
        if releases.FILE in entries:
            contents = (store.read(entries[releases.FILE]) for store in places)
            (folder / releases.FILE).write_bytes(next(content for content in contents if content is not None))
            _clean_released(folder, products, photos)
        for name in (MANIFEST, releases.FILE):
            left.pop(name, None)
            if (folder / name).is_file():
                content = (folder / name).read_bytes()
                left[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
                objects[left[name]] = content
    tree, tree_bytes = build_version(left)
    changed = [name for name in (MANIFEST, releases.FILE) if entries.get(name) != left.get(name)]
    fewer = sum(sizes.get(entries[path], 0) for path in {*gone, *changed} & entries.keys())
    fewer -= sum(len(objects[left[name]]) for name in changed if name in left)
    return Successor(
        tree,
        objects | {tree: tree_bytes},
        {entries[name]: left.get(name) for name in changed if name in entries},
        Counter([("lost", role) for role in version.rows.role] + [("kept", role) for role in rest["role"].to_pylist()]),
        len(entries) - len(left),
        fewer,
    )


def clean_data(data: Path, products: frozenset[str], photos: frozenset[str]) -> None:
    """Remove them from data/, where it has a manifest, which names the files and is changed last."""
    if not (data / MANIFEST).is_file():
        return
    table = pq.read_table(data / MANIFEST)
    rest = _without(table, products, photos)
    if len(rest) < len(table):
        for path in set(table["path"].to_pylist()) - set(rest["path"].to_pylist()):
            (data / path).unlink(missing_ok=True)
        if (data / releases.FILE).is_file():
            _clean_released(data, products, photos)
        write_manifest(rest, data / MANIFEST)


def _clean_released(data: Path, products: frozenset[str], photos: frozenset[str]) -> None:
    of_role = {"original": products, "photo": photos}
    with (data / releases.FILE).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["picture_id"] not in of_role[row["role"]]]
    releases.write_released(rows, data)


def _without(table: pa.Table, products: frozenset[str], photos: frozenset[str]) -> pa.Table:
    mask = _mask(table.select(["role", "picture_id"]).to_pandas(), products, photos)
    return table.filter(pa.array(~mask))
