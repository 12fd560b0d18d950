"""`photoproof data forget`: remove a photo, or a product with its photos, for good.

From data/ and every version of it, in DVC's cache and in every remote, and from the product database. A version that
named it gets a successor without it, which the ledger (pipelines/forgotten.py) notes; successors come first, deletion
follows, the database is last. So a run that was killed is simply started again.
"""

import csv
import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from sqlalchemy.engine import Connection

from pipelines import data_history, database, forgotten, stages, versions
from pipelines.forget_models import Holder, holders
from pipelines.forget_rows import Rows, find_rows, has, remove_rows, shows_something_else, wipe
from pipelines.ingest import MANIFEST
from pipelines.object_stores import CACHE, Store, as_version, stage_outputs, stores
from pipelines.workspace import Workspace
from training import released
from training.errors import BadInput
from training.manifest import write_manifest

Kind = Literal["photo", "product"]
_NO_ROWS = pd.DataFrame({"role": [], "picture_id": []})


@dataclass(frozen=True)
class Forgotten:
    """What is removed, or would be."""

    kind: Kind
    id: str
    products: tuple[str, ...]
    photos: tuple[str, ...]
    versions: tuple[str, ...]
    """md5 of the data versions that named one of them."""
    objects: int
    """Pictures in DVC that go."""
    places: tuple[str, ...]
    """Where versions that name them are kept."""
    outputs: int
    """Outputs of stages in DVC's cache that go, because reports and golden pairs may show them."""
    verdicts: int
    """Verdicts about them, which stay."""
    same_bytes: tuple[str, ...]
    """Other pictures with the same bytes, which stay, and with them those bytes."""
    models: tuple[Holder, ...]
    done: bool

    def __str__(self) -> str:
        verb = "is removed" if self.done else "would be removed"
        lines = [f"{self.kind} {self.id}: {_counted(self.products, self.photos)} {verb}"]
        if self.versions:
            shown = ", ".join(md5[:12] for md5 in self.versions[:5]) + (", …" if len(self.versions) > 5 else "")
            lines.append(
                f"data: from {len(self.versions):,} versions ({shown}) in {', '.join(self.places)}: "
                f"{self.objects:,} pictures, and {self.outputs:,} outputs of stages in the cache"
            )
        if self.verdicts:
            lines.append(f"verdicts: {self.verdicts:,} stay, with their scores and without the picture")
        if self.same_bytes:
            lines.append(f"the same bytes stay, as they are also: {', '.join(self.same_bytes[:5])}")
        lines += [f"model: {one}" for one in self.models]
        return "\n".join(lines)


@dataclass
class _Version:
    """A version as some store keeps it, and those of its rows that are in question."""

    rows: pd.DataFrame
    stores: list[Store]


@dataclass
class _Successor:
    """What takes a version's place."""

    oid: str
    objects: dict[str, bytes]
    replaced: dict[str, str | None]
    """The objects of its lists (the manifest, released.csv), and those that take their places."""
    before: pa.Table
    after: pa.Table
    files_fewer: int
    bytes_fewer: int


def forget(workspace: Workspace, wanted: str, kind: Kind | None = None, *, really: bool) -> Forgotten:
    """Remove a picture or a product for good; without `really`, say what that would remove and change nothing.

    Raises BadInput where there is no such id, or a photo and a product share it and `kind` does not say which;
    VersioningFailed where a remote, RegistryUnreachable where MLflow can't be reached.
    """
    engine = database.connect(workspace.database_url)
    try:
        with stages.only_one(workspace), stores(workspace) as places:
            listings = {store.name: store.listing() for store in places}
            found = _versions(places, listings, wanted)
            with database.snapshot(engine) as connection:
                kinds = _kinds(connection, found, wanted, kind)
                if not kinds and really:  # perhaps a run was killed when little was left to do
                    _delete(places, listings, forgotten.read(workspace))
                kind = _the_one(kinds, wanted, kind)
                rows, products, photos = _chosen(connection, found, wanted, kind)
            named = {oid: mine for oid, one in found.items() if (mine := _only(one, products, photos))}
            gone, kept_by = _objects(places, listings, named)
            sizes = {oid: size for listing in listings.values() for oid, size in listing.items()}
            known = set(named) | {old for old in forgotten.read(workspace) if _leads_to(workspace, old, named)}
            models = holders(workspace, products, photos, lambda md5: f"{md5}.dir" in known)
            outputs = stage_outputs(workspace, places[0]) & listings[CACHE].keys() if named else set[str]()
            if really:
                _carry_out(workspace, places, named, gone, outputs, sizes, products, photos)
                sha256s = rows.sha256s.union(*(set(one.rows.sha256) for one in named.values()))
                with database.transaction(engine) as connection:
                    remove_rows(connection, rows, sha256s)
                wipe(engine)
    finally:
        engine.dispose()
    return Forgotten(
        kind,
        wanted,
        tuple(sorted(products)),
        tuple(sorted(photos)),
        tuple(sorted(oid.removesuffix(".dir") for oid in named)),
        len(gone),
        tuple(dict.fromkeys(store.name for one in named.values() for store in one.stores)),
        len(outputs),
        rows.verdicts,
        tuple(sorted({*rows.same_bytes, *kept_by})),
        tuple(models),
        really,
    )


def _versions(places: list[Store], listings: dict[str, dict[str, int]], wanted: str) -> dict[str, _Version]:
    """Every data version that any store keeps, with its rows of the wanted id: as a photo, an original, a product."""
    found: dict[str, _Version] = {}
    for store in places:
        for oid in sorted(listings[store.name]):
            if not oid.endswith(".dir"):
                continue
            if oid in found:
                found[oid].stores.append(store)
                continue
            if not (entries := store.version(oid)):
                continue
            for one in places:
                manifest = one.manifest(entries[MANIFEST]) if entries[MANIFEST] in listings[one.name] else None
                if manifest is not None:
                    mine = (pc.field("picture_id") == wanted) | (pc.field("product_id") == wanted)
                    found[oid] = _Version(manifest.filter(mine).to_pandas(), [store])
                    break
    return found


def _kinds(connection: Connection, found: dict[str, _Version], wanted: str, kind: Kind | None) -> list[Kind]:
    """What the id is, in the database or in any version."""
    rows = pd.concat([version.rows[["role", "picture_id"]] for version in found.values()] or [_NO_ROWS])
    roles = set(rows.role[rows.picture_id == wanted])
    is_photo = "photo" in roles or has(connection, database.photos, wanted)
    is_product = "original" in roles or has(connection, database.products, wanted)
    known: dict[Kind, bool] = {"photo": is_photo, "product": is_product}
    return [one for one, there in known.items() if there and kind in (None, one)]


def _the_one(kinds: list[Kind], wanted: str, asked: Kind | None) -> Kind:
    if len(kinds) > 1:
        raise BadInput(f"{wanted} is a photo's id and a product's: say which with --photo or --product")
    if not kinds:
        raise BadInput(f"no {asked or 'photo or product'} {wanted} is in the product database or in any data version")
    return kinds[0]


def _chosen(
    connection: Connection, found: dict[str, _Version], wanted: str, kind: Kind
) -> tuple[Rows, frozenset[str], frozenset[str]]:
    """The database's rows, and the ids of all products and photos that go, those of old versions too."""
    if kind == "photo":
        return find_rows(connection, [], [wanted]), frozenset(), frozenset([wanted])
    rows = find_rows(connection, [wanted], [])
    labelled = set[str]()
    for one in found.values():
        labelled |= set(one.rows.picture_id[(one.rows.role == "photo") & (one.rows.product_id == wanted)])
    labelled -= shows_something_else(connection, labelled, wanted)
    return rows, frozenset([wanted]), rows.photos | labelled


def _only(version: _Version, products: frozenset[str], photos: frozenset[str]) -> _Version | None:
    mine = version.rows.loc[_mask(version.rows, products, photos)]
    return None if mine.empty else _Version(mine, version.stores)


def _mask(rows: pd.DataFrame, products: frozenset[str], photos: frozenset[str]) -> pd.Series:
    original = rows.role == "original"
    return original & rows.picture_id.isin(products) | ~original & rows.picture_id.isin(photos)


def _objects(
    places: list[Store], listings: dict[str, dict[str, int]], named: dict[str, _Version]
) -> tuple[set[str], set[str]]:
    """The pictures' objects, without those that another picture of some version is too, and the paths of such."""
    paths = {path for one in named.values() for path in one.rows.path}
    objects: set[str] = set()
    for oid, one in named.items():
        entries = one.stores[0].entries(oid) or {}
        objects |= {entries[path] for path in one.rows.path if path in entries}
    kept_by: dict[str, str] = {}
    seen: set[str] = set()
    for store in places if objects else ():
        for oid in sorted(listings[store.name].keys() - seen):
            if entries := store.version(oid):
                seen.add(oid)
                kept_by |= {one: path for path, one in entries.items() if one in objects and path not in paths}
    return objects - kept_by.keys(), set(kept_by.values())


def _leads_to(workspace: Workspace, old: str, named: Iterable[str]) -> bool:
    ledger = forgotten.read(workspace)
    return old.endswith(".dir") and f"{forgotten.successor(ledger, old.removesuffix('.dir'))}.dir" in set(named)


def _carry_out(
    workspace: Workspace,
    places: list[Store],
    named: dict[str, _Version],
    gone: set[str],
    outputs: set[str],
    sizes: dict[str, int],
    products: frozenset[str],
    photos: frozenset[str],
) -> None:
    after: dict[str, _Successor] = {}
    replaced: dict[str, str | None] = dict.fromkeys(gone)
    for oid, one in named.items():
        after[oid] = _successor(places, oid, one, sizes, products, photos)
        for store in one.stores:
            store.put(after[oid].objects)
        replaced |= {oid: after[oid].oid} | after[oid].replaced
    if replaced:
        forgotten.add(workspace, replaced)
    _clean(workspace.data, products, photos)
    _commit(workspace, after, products, photos)
    listings = {store.name: store.listing() for store in places}
    _delete(places, listings, forgotten.read(workspace))
    places[0].delete(outputs & listings[CACHE].keys())
    if any(store.name == "remote sample" for one in named.values() for store in one.stores):
        versions.commit(workspace, [".dvc/sample"], "Data: forgotten pictures leave the committed objects")


def _successor(
    places: list[Store],
    oid: str,
    version: _Version,
    sizes: dict[str, int],
    products: frozenset[str],
    photos: frozenset[str],
) -> _Successor:
    """The version without them."""
    entries = version.stores[0].version(oid)
    before = next(found for store in places if (found := store.manifest(entries[MANIFEST])) is not None)
    rest = _without(before, products, photos)
    gone = set(version.rows.path)
    left = {path: one for path, one in entries.items() if path not in gone}
    objects: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_manifest(rest, folder / MANIFEST)
        if released.FILE in entries:
            old = next(found for store in places if (found := store.read(entries[released.FILE])) is not None)
            (folder / released.FILE).write_bytes(old)
            _clean_released(folder, products, photos)
        for name in (MANIFEST, released.FILE):
            left.pop(name, None)
            if (folder / name).is_file():
                content = (folder / name).read_bytes()
                left[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
                objects[left[name]] = content
    tree, tree_bytes = as_version(left)
    changed = [name for name in (MANIFEST, released.FILE) if entries.get(name) != left.get(name)]
    fewer = sum(sizes.get(entries[path], 0) for path in {*gone, *changed} & entries.keys())
    fewer -= sum(len(objects[left[name]]) for name in changed if name in left)
    return _Successor(
        tree,
        objects | {tree: tree_bytes},
        {entries[name]: left.get(name) for name in changed if name in entries},
        before,
        rest,
        len(entries) - len(left),
        fewer,
    )


def _clean(data: Path, products: frozenset[str], photos: frozenset[str]) -> None:
    """Remove them from data/, where it is there; the manifest, which names the files, comes last."""
    if not (data / MANIFEST).is_file():
        return
    table = pq.read_table(data / MANIFEST)
    rest = _without(table, products, photos)
    if len(rest) < len(table):
        for path in set(table["path"].to_pylist()) - set(rest["path"].to_pylist()):
            (data / path).unlink(missing_ok=True)
        if (data / released.FILE).is_file():
            _clean_released(data, products, photos)
        write_manifest(rest, data / MANIFEST)


def _clean_released(data: Path, products: frozenset[str], photos: frozenset[str]) -> None:
    of_role = {"original": products, "photo": photos}
    with (data / released.FILE).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["picture_id"] not in of_role[row["role"]]]
    released.write_released(rows, data)


def _without(table: pa.Table, products: frozenset[str], photos: frozenset[str]) -> pa.Table:
    mine = _mask(table.select(["role", "picture_id"]).to_pandas(), products, photos)
    return table.filter(pa.array(~mine))


def _commit(
    workspace: Workspace, after: dict[str, _Successor], products: frozenset[str], photos: frozenset[str]
) -> None:
    """Commit the ledger, and data.dvc where HEAD's version has a successor; keep what is not committed apart."""
    path = workspace.root / "data.dvc"
    working = path.read_text() if path.is_file() else None
    committed = versions.committed(workspace)
    message = f"Data: {_counted(products, photos)} forgotten in earlier versions"
    new = None
    if committed is not None and (new := after.get(f"{_md5(committed)}.dir")):
        said = data_history.difference(new.before.to_pandas(), new.after.to_pandas())
        message = f"Data version {new.oid.removesuffix('.dir')[:12]}: {said}, forgotten"
        _write(path, _rewritten(committed, new))
        made = versions.commit(workspace, ["data.dvc", forgotten.LEDGER], message)
        if made:
            data_history.tag(workspace, new.oid.removesuffix(".dir"), made)
    else:
        versions.commit(workspace, [forgotten.LEDGER], message)
    ledger = forgotten.read(workspace)
    if working is not None and forgotten.successor(ledger, _md5(working)) != _md5(path.read_text()):
        _write(path, _rewritten(working, after[f"{_md5(working)}.dir"]) if f"{_md5(working)}.dir" in after else working)


def _md5(data_dvc: str) -> str:
    return versions.parse_version(data_dvc).md5


def _rewritten(data_dvc: str, new: _Successor) -> str:
    found = yaml.safe_load(data_dvc)
    (out,) = found["outs"]
    out["md5"] = new.oid
    for name, fewer in (("size", new.bytes_fewer), ("nfiles", new.files_fewer)):
        if name in out:
            out[name] -= fewer
    return yaml.safe_dump(found, sort_keys=False)


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


def _delete(places: list[Store], listings: dict[str, dict[str, int]], ledger: dict[str, str | None]) -> int:
    """Delete what the ledger says is forgotten; how many objects were still there."""
    return sum(store.delete(ledger.keys() & listings[store.name].keys()) for store in places)


def _counted(products: Iterable[str], photos: Iterable[str]) -> str:
    counts = [(len(tuple(products)), "product"), (len(tuple(photos)), "photo")]
    return " and ".join(f"{count:,} {what}{'' if count == 1 else 's'}" for count, what in counts if count)
