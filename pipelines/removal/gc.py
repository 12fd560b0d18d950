"""`photoproof data gc`: delete what no data version needs that somebody may still ask for.

Kept are the version of data.dvc (here, in HEAD and at the head of every branch), the newest ones, those that a model
with an alias was trained on, and those of every model that a verdict names. In the cache of this workspace every other
version goes, and outputs of stages that dvc.lock does not name. A remote, and a cache that lies elsewhere, may be
shared with people whose work is unknown here: only versions that git's history knows leave it, and nothing that
another one there names. The remote `sample` is never touched. Data Docs of versions that are not kept go too; MLflow
keeps its own.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from pipelines.data import difference, forgotten_ledger, history, versioning
from pipelines.data.object_stores import Store, find_forgotten, list_locked_outputs, list_stage_outputs, opened_stores
from pipelines.data.versioning import VersioningFailed
from pipelines.database import tables
from pipelines.database.engine import opened, snapshot
from pipelines.registry import versions as registry
from pipelines.workspace import lock
from pipelines.workspace.places import Workspace
from training.stage.places import DATA_DOCS
from training.validation import data_docs

NEVER = "remote sample"


@dataclass(frozen=True)
class Swept:
    """What leaves a place."""

    place: str
    versions: int
    objects: int
    bytes: int

    def __str__(self) -> str:
        counts = [(self.versions, "version"), (self.objects, "file")]
        text = ", ".join(difference.format_count(count, noun) for count, noun in counts)
        return f"{self.place}: {text}, {self.bytes / 1e6:,.1f} MB"


@dataclass(frozen=True)
class Collected:
    """Which data versions are kept, and why, and what goes."""

    kept: dict[str, list[str]]
    """md5 -> reasons."""
    lost: tuple[str, ...]
    """Kept versions that are neither in the cache nor in a remote."""
    swept: tuple[Swept, ...]
    done: bool

    def __str__(self) -> str:
        lines = [f"kept: {md5[:12]}  {', '.join(reasons)}" for md5, reasons in self.kept.items()]
        lines += [f"WARNING: {md5[:12]} is neither in the cache nor in a remote" for md5 in self.lost]
        lines += [f"{'deleted' if self.done else 'would be deleted'}: {place}" for place in self.swept]
        return "\n".join(lines)


def collect(workspace: Workspace, keep: int, *, really: bool) -> Collected:
    """Delete what is not kept; without `really` only count it. `keep`: how many of the newest versions stay.

    Raises RegistryUnreachable, VersioningFailed, and deletes nothing then.
    """
    with lock.exclusive_workspace(workspace), opened_stores(workspace) as places:
        places = [store for store in places if store.name != NEVER]
        ledger = forgotten_ledger.read(workspace)
        named = _find_kept(workspace, keep)
        kept = {forgotten_ledger.find_successor(ledger, md5): reasons for md5, reasons in named.items()}
        known = _list_known(workspace) | {old.removesuffix(".dir") for old in ledger if old.endswith(".dir")}
        known |= {forgotten_ledger.find_successor(ledger, md5) for md5 in known}
        listings = {store.name: store.list_objects() for store in places}
        needed, lost = _find_needed(places, listings, kept)
        swept = []
        for store in places:
            listing = listings[store.name]
            gone = _find_unneeded(store, listing, {f"{md5}.dir" for md5 in known}) - needed
            if store.own:
                gone |= list_stage_outputs(workspace, store) - list_locked_outputs(workspace, store) - needed
            else:
                gone -= _find_others_objects(store, listing, known)
            gone = gone & listing.keys() | find_forgotten(listing, ledger)
            if really:
                store.delete(gone)
            versions_gone = sum(oid.endswith(".dir") and oid.removesuffix(".dir") in known for oid in gone)
            swept.append(Swept(store.name, versions_gone, len(gone), sum(listing[oid] for oid in gone)))
        swept += _sweep_docs(workspace.root / DATA_DOCS, named.keys() | kept.keys(), really=really)
        if really and forgotten_ledger.find_in_data(workspace):
            versioning.pull_data(workspace)
    return Collected(kept, tuple(lost), tuple(swept), really)


def _find_kept(workspace: Workspace, keep: int) -> dict[str, list[str]]:
    """The md5 of every version that stays, with the reasons."""
    kept: dict[str, list[str]] = {}

    def add(md5: str | None, reason: str) -> None:
        if md5 and reason not in kept.setdefault(md5, []):
            kept[md5].append(reason)

    working = versioning.read_version(workspace)
    add(working and working.md5, "data.dvc")
    for number, version in enumerate(history.log(workspace, keep) if keep else [], 1):
        add(version.md5, "newest" if number == 1 else f"one of the {keep} newest")
    refs = versioning.git(workspace, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes").split()
    for ref, version in versioning.versions_at(workspace, [*refs, "HEAD"]).items():
        add(version.md5, "HEAD" if ref == "HEAD" else f"head of {ref.split('/', 2)[2]}")
    with opened(workspace.database_url) as engine, snapshot(engine) as connection:
        judged = set(connection.scalars(sa.select(tables.verdicts.c.model_id).distinct()))
    for model in registry.all_versions(workspace):
        data = model.tags.get("data_version")
        if model.aliases:
            add(data, f"{' and '.join(model.aliases)} (model version {model.version})")
        if model.tags.get("model_id") in judged:
            add(data, f"verdicts of model version {model.version}")
    return kept


def _list_known(workspace: Workspace) -> set[str]:
    """Every version that git's history knows, on any branch or tag."""
    commits = versioning.git(workspace, "log", "--all", "--format=%H", "--diff-filter=AM", "--", "data.dvc").split()
    return {version.md5 for version in versioning.versions_at(workspace, commits).values()}


def _find_needed(
    places: list[Store], listings: dict[str, dict[str, int]], kept: dict[str, list[str]]
) -> tuple[set[str], list[str]]:
    """Every object of the kept versions, and those versions that no place has.

    Raises VersioningFailed where the list of files of a version can't be read in any place that has it.
    """
    needed: set[str] = set()
    lost = []
    for md5 in kept:
        oid = f"{md5}.dir"
        holding = [store for store in places if oid in listings[store.name]]
        if not holding:
            lost.append(md5)
            continue
        lists = [entries for store in holding if (entries := store.read_entries(oid)) is not None]
        if not lists:
            raise VersioningFailed(
                f"the list of files of data version {md5[:12]} ({', '.join(kept[md5])}) is damaged in: "
                f"{', '.join(store.name for store in holding)}; nothing is deleted: delete {oid} there, and push that "
                "version from where it is whole"
            )
        needed |= {oid}.union(*(entries.values() for entries in lists))
    return needed, lost


def _find_unneeded(store: Store, listing: dict[str, int], known: set[str]) -> set[str]:
    """The objects of all versions that may leave a place: all in the own cache, elsewhere those that git knows."""
    unneeded: set[str] = set()
    for oid in listing:
        if oid.endswith(".dir") and (store.own or oid in known) and (entries := store.read_version(oid)):
            unneeded |= {oid, *entries.values()}
    return unneeded


def _find_others_objects(store: Store, listing: dict[str, int], known: set[str]) -> set[str]:
    """What versions that git does not know here name in a shared place: they may be a colleague's."""
    unknown = [oid for oid in listing if oid.endswith(".dir") and oid.removesuffix(".dir") not in known]
    return {entry for oid in unknown for entry in (store.read_entries(oid) or {}).values()}


def _sweep_docs(docs: Path, kept: Iterable[str], *, really: bool) -> list[Swept]:
    """Data Docs of versions that are not kept, those of stopped ones too."""
    names = {data_docs.folder_of(docs, md5).name for md5 in kept}
    gone = [site for site in docs.glob("*/") if site.name not in names]
    files = [file for site in gone for file in site.rglob("*") if file.is_file()]
    swept = Swept("Data Docs", len(gone), len(files), sum(file.stat().st_size for file in files))
    if really and gone:
        for site in gone:
            shutil.rmtree(site)
        data_docs.write_index(docs)
    return [swept] if docs.is_dir() else []
