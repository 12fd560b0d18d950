"""`photoproof data forget`: remove a photo, or a product with its photos, for good.

From data/ and every version of it, in DVC's cache and in every remote, and from the product database. A version that
named it gets a successor without it, which the ledger (pipelines/data/forgotten_ledger.py) notes; successors come
first, deletion follows, the database is last. So a run that was killed is simply started again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import yaml
from sqlalchemy.engine import Connection

from pipelines.data import difference, forgotten_ledger, history, versioning
from pipelines.data.object_stores import CACHE, Store, find_forgotten, list_stage_outputs, opened_stores
from pipelines.database import tables
from pipelines.database.engine import opened, snapshot, transaction
from pipelines.removal.database_rows import (
    ForgottenRows,
    find_relabelled,
    find_rows,
    has_row,
    remove_rows,
    wipe_log,
)
from pipelines.removal.holders import Holder, find_holders
from pipelines.removal.successors import (
    NamedVersion,
    Successor,
    clean_data,
    find_objects,
    find_versions,
    make_successor,
    select_rows,
)
from pipelines.workspace import lock
from pipelines.workspace.places import Workspace
from training.stage import files
from training.stage.errors import BadInput

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
            count = difference.format_count(len(self.versions), "version")
            lines.append(
                f"data: from {count} ({shown}) in {', '.join(self.places)}: "
                f"{self.objects:,} pictures, and {self.outputs:,} outputs of stages in the cache"
            )
        if self.verdicts:
            lines.append(f"verdicts: {self.verdicts:,} stay, with their scores and without the picture")
        if self.same_bytes:
            lines.append(f"the same bytes stay, as they are also: {', '.join(self.same_bytes[:5])}")
        lines += [f"model: {holder}" for holder in self.models]
        return "\n".join(lines)


def forget(workspace: Workspace, wanted: str, kind: Kind | None = None, *, really: bool) -> Forgotten:
    """Remove a picture or a product for good; without `really`, say what that would remove and change nothing.

    Raises BadInput where there is no such id, or a photo and a product share it and `kind` does not say which;
    VersioningFailed where a remote, RegistryUnreachable where MLflow can't be reached.
    """
    with (
        opened(workspace.database_url) as engine,
        lock.exclusive_workspace(workspace),
        opened_stores(workspace) as places,
    ):
        listings = {store.name: store.list_objects() for store in places}
        versions = find_versions(places, listings, wanted)
        with snapshot(engine) as connection:
            kinds = _find_kinds(connection, versions, wanted, kind)
            if not kinds and really:  # perhaps a run was killed when little was left to do
                _delete(places, listings, forgotten_ledger.read(workspace))
            kind = _exclusive_kind(kinds, wanted, kind)
            rows, products, photos = _find_pictures(connection, versions, wanted, kind)
        named = {
            oid: selected for oid, version in versions.items() if (selected := select_rows(version, products, photos))
        }
        gone, kept_by = find_objects(places, listings, named)
        sizes = {oid: size for listing in listings.values() for oid, size in listing.items()}
        known = set(named) | {old for old in forgotten_ledger.read(workspace) if _leads_to(workspace, old, named)}
        models = find_holders(workspace, products, photos, lambda md5: f"{md5}.dir" in known)
        outputs = list_stage_outputs(workspace, places[0]) & listings[CACHE].keys() if named else set[str]()
        if really:
            _carry_out(workspace, places, named, gone, outputs, sizes, products, photos)
            sha256s = rows.sha256s.union(*(set(version.rows.sha256) for version in named.values()))
            with transaction(engine) as connection:
                remove_rows(connection, rows, sha256s)
            wipe_log(engine)
    return Forgotten(
        kind,
        wanted,
        tuple(sorted(products)),
        tuple(sorted(photos)),
        tuple(sorted(oid.removesuffix(".dir") for oid in named)),
        len(gone),
        tuple(dict.fromkeys(store.name for version in named.values() for store in version.stores)),
        len(outputs),
        rows.verdicts,
        tuple(sorted({*rows.same_bytes, *kept_by})),
        tuple(models),
        really,
    )


def _find_kinds(
    connection: Connection, versions: dict[str, NamedVersion], wanted: str, kind: Kind | None
) -> list[Kind]:
    """What the id is, in the database or in any version."""
    rows = pd.concat([version.rows[["role", "picture_id"]] for version in versions.values()] or [_NO_ROWS])
    roles = set(rows.role[rows.picture_id == wanted])
    is_photo = "photo" in roles or has_row(connection, tables.photos, wanted)
    is_product = "original" in roles or has_row(connection, tables.products, wanted)
    known: dict[Kind, bool] = {"photo": is_photo, "product": is_product}
    return [name for name, is_known in known.items() if is_known and kind in (None, name)]


def _exclusive_kind(kinds: list[Kind], wanted: str, asked: Kind | None) -> Kind:
    if len(kinds) > 1:
        raise BadInput(f"{wanted} is a photo's id and a product's: say which with --photo or --product")
    if not kinds:
        raise BadInput(f"no {asked or 'photo or product'} {wanted} is in the product database or in any data version")
    return kinds[0]


def _find_pictures(
    connection: Connection, versions: dict[str, NamedVersion], wanted: str, kind: Kind
) -> tuple[ForgottenRows, frozenset[str], frozenset[str]]:
    """The database's rows, and the ids of all products and photos that go, those of old versions too."""
    if kind == "photo":
        return find_rows(connection, [], [wanted]), frozenset(), frozenset([wanted])
    rows = find_rows(connection, [wanted], [])
    labelled = set[str]()
    for version in versions.values():
        of_product = (version.rows.role == "photo") & (version.rows.product_id == wanted)
        labelled |= set(version.rows.picture_id[of_product])
    labelled -= find_relabelled(connection, labelled, wanted)
    return rows, frozenset([wanted]), rows.photos | labelled


def _leads_to(workspace: Workspace, old: str, named: Iterable[str]) -> bool:
    ledger = forgotten_ledger.read(workspace)
    return old.endswith(".dir") and f"{forgotten_ledger.find_successor(ledger, old.removesuffix('.dir'))}.dir" in set(
        named
    )


def _carry_out(
    workspace: Workspace,
    places: list[Store],
    named: dict[str, NamedVersion],
    gone: set[str],
    outputs: set[str],
    sizes: dict[str, int],
    products: frozenset[str],
    photos: frozenset[str],
) -> None:
    successors: dict[str, Successor] = {}
    replaced: dict[str, str | None] = dict.fromkeys(gone)
    for oid, version in named.items():
        successor = successors[oid] = make_successor(places, oid, version, sizes, products, photos)
        for store in version.stores:
            store.put(successor.objects)
        replaced |= {oid: successor.oid} | successor.replaced
    if replaced:
        forgotten_ledger.add(workspace, replaced)
    clean_data(workspace.data, products, photos)
    _commit(workspace, successors, products, photos)
    listings = {store.name: store.list_objects() for store in places}
    _delete(places, listings, forgotten_ledger.read(workspace))
    places[0].delete(outputs & listings[CACHE].keys())
    if any(store.name == "remote sample" for version in named.values() for store in version.stores):
        versioning.commit(workspace, [".dvc/sample"], "Data: forgotten pictures leave the committed objects")


def _commit(
    workspace: Workspace, successors: dict[str, Successor], products: frozenset[str], photos: frozenset[str]
) -> None:
    """Commit the ledger, and data.dvc where HEAD's version has a successor; keep what is not committed apart."""
    path = workspace.root / "data.dvc"
    working = path.read_text() if path.is_file() else None
    committed = versioning.read_committed(workspace)
    message = f"Data: {_counted(products, photos)} forgotten in earlier versions"
    new = None
    if committed is not None and (new := successors.get(f"{_md5(committed)}.dir")):
        summary = difference.summarize(new.counts)
        message = f"Data version {new.oid.removesuffix('.dir')[:12]}: {summary}, forgotten"
        files.write_whole(path, _rewritten(committed, new))
        commit = versioning.commit(workspace, ["data.dvc", forgotten_ledger.LEDGER], message)
        if commit:
            history.tag(workspace, new.oid.removesuffix(".dir"), commit)
    else:
        versioning.commit(workspace, [forgotten_ledger.LEDGER], message)
    ledger = forgotten_ledger.read(workspace)
    if working is not None and forgotten_ledger.find_successor(ledger, _md5(working)) != _md5(path.read_text()):
        successor = successors.get(f"{_md5(working)}.dir")
        files.write_whole(path, _rewritten(working, successor) if successor else working)


def _md5(data_dvc: str) -> str:
    return versioning.parse_version(data_dvc).md5


def _rewritten(data_dvc: str, new: Successor) -> str:
    document = yaml.safe_load(data_dvc)
    (out,) = document["outs"]
    out["md5"] = new.oid
    for name, fewer in (("size", new.bytes_fewer), ("nfiles", new.files_fewer)):
        if name in out:
            out[name] -= fewer
    return yaml.safe_dump(document, sort_keys=False)


def _delete(places: list[Store], listings: dict[str, dict[str, int]], ledger: dict[str, str | None]) -> int:
    """Delete what the ledger says is forgotten; how many objects that were."""
    return sum(store.delete(find_forgotten(listings[store.name], ledger)) for store in places)


def _counted(products: Iterable[str], photos: Iterable[str]) -> str:
    counts = [(len(tuple(products)), "product"), (len(tuple(photos)), "photo")]
    return " and ".join(difference.format_count(count, noun) for count, noun in counts if count)
