"""What has to happen so that the model server equals the registry's aliases: a pure function of both.

The order is what protects callers: a version is loaded before a label names it, and no version goes that a
label still names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.deployment.models_config import Served
from pipelines.registry.versions import CHALLENGER, CHAMPION

LABELS = {CHAMPION: "stable", CHALLENGER: "canary"}
"""The label by which each alias is served."""

KEEP = 2
"""Version folders that nothing names any more and that stay, for a fast way back."""


@dataclass(frozen=True)
class Actual:
    """The state of things: models.config, version folders, and what a running server has.

    `available` is None where no server runs, otherwise the versions that answer.
    """

    config: Served | None = None
    folders: frozenset[int] = frozenset()
    available: frozenset[int] | None = None
    known: frozenset[int] | None = None
    """Versions that the running server knows it should have; None: unknown. It lacks what it refused to read."""


@dataclass(frozen=True)
class Fetch:
    """Bring a version's folder from MLflow, once it has passed in a model server of its own."""

    version: int

    def __str__(self) -> str:
        return f"fetch version {self.version} from MLflow and prove it"


@dataclass(frozen=True)
class Configure:
    """Write models.config; `why` says what changes by it."""

    served: Served
    why: str

    def __str__(self) -> str:
        return f"write models.config: {self.why}"


@dataclass(frozen=True)
class WaitLoaded:
    """Wait until the running server answers for these versions."""

    versions: frozenset[int]

    def __str__(self) -> str:
        return f"wait until the server has {_named(self.versions)}"


@dataclass(frozen=True)
class Confirm:
    """Wait until the running server answers by the label with this version, and see that its scores are right."""

    label: str
    version: int

    def __str__(self) -> str:
        return f"see that {self.label} answers as version {self.version}, with a golden pair"


@dataclass(frozen=True)
class WaitDropped:
    """Wait until the running server has dropped what models.config no longer asks for."""

    versions: frozenset[int]

    def __str__(self) -> str:
        return f"wait until the server has dropped {_named(self.versions)}"


@dataclass(frozen=True)
class Remove:
    """Delete a version's folder."""

    version: int

    def __str__(self) -> str:
        return f"remove the folder of version {self.version}"


Step = Fetch | Configure | WaitLoaded | Confirm | WaitDropped | Remove


@dataclass(frozen=True)
class Plan:
    """Steps in their order, the aliases that change by them (alias -> from, to), and lines to say loudly."""

    steps: Sequence[Step] = ()
    changes: Mapping[str, tuple[int | None, int]] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    partial: bool = False
    """Whether to observe and plan again after these steps."""


def plan(desired: Mapping[str, int], actual: Actual, keep: int = KEEP, failed: Mapping[str, int] | None = None) -> Plan:
    """The steps from `actual` to `desired` (alias -> version; other aliases than champion and challenger don't serve).

    An alias that is gone takes nothing out of service: its label stays, and the plan says so. One whose version has
    `failed` under it (alias -> version) leaves its label where it is.
    """
    before = actual.config or Served()
    held = {alias for alias, version in (failed or {}).items() if desired.get(alias) == version}
    labels = {label: desired[alias] for alias, label in LABELS.items() if alias in desired and alias not in held}
    warnings = []
    for alias, label in LABELS.items():
        if alias in held and label in before.labels:
            labels[label] = before.labels[label]
        elif label not in labels and label in before.labels:
            labels[label] = before.labels[label]
            warnings.append(
                f"the alias {alias} is gone from MLflow: version {labels[label]} serves on as {label}; "
                f"to change that, let {alias} name a version"
            )
    needed = frozenset(labels.values())
    changes = {
        alias: (before.labels.get(label), labels[label])
        for alias, label in LABELS.items()
        if label in labels and labels[label] != before.labels.get(label)
    }
    steps: list[Step] = [Fetch(version) for version in sorted(needed - actual.folders)]
    available = actual.available
    runs = available is not None
    config = before
    if accepted := _accepted_config(actual):
        steps.append(Configure(accepted, "what the server has, as it refused the last one"))
        return Plan(steps, {}, warnings, partial=True)
    if available is not None and actual.config:
        # A version that the server is about to drop answers now and not a moment later: no label may move to it.
        leaving, available = available - config.versions, available & config.versions
        if leaving and labels != config.labels:
            steps.append(WaitDropped(leaving))
    if not needed <= config.versions:
        added = needed - config.versions
        kept = {label: version for label, version in config.labels.items() if version in config.versions}
        config = Served(config.versions | needed, kept)
        steps.append(Configure(config, f"add {_named(added)}"))
    moved = {label: version for label, version in sorted(labels.items()) if config.labels.get(label) != version}
    # Where labels move only their versions count: what is wrong with another label's must not hold up a way back.
    required = frozenset(moved.values()) or needed
    if available is not None and not required <= available:
        steps.append(WaitLoaded(required))
    if moved:
        config = Served(config.versions, labels)
        steps.append(Configure(config, ", ".join(f"{label} is version {version}" for label, version in moved.items())))
    dropped = config.versions - needed
    if runs and (dropped or moved):
        # A server reads the file every second or so: without this it could drop a version that its label still names.
        steps += [Confirm(label, version) for label, version in (moved or dict(sorted(labels.items()))).items()]
    if dropped:
        steps.append(Configure(Served(needed, labels), f"drop {_named(dropped)}"))
        steps += [WaitDropped(dropped)] if runs else []
    served = frozenset(before.labels.values())  # the way back from here, whatever its number
    unneeded = sorted(actual.folders - needed, key=lambda version: (version in served, version), reverse=True)
    steps += [Remove(version) for version in sorted(unneeded[keep:])]
    return Plan(steps, changes, warnings)


def _accepted_config(actual: Actual) -> Served | None:
    """A config, of versions that it has, for a server that has refused models.config; None where none has refused it.

    A server refuses a file in which a label moves to a version that is not loaded, and goes on as before. Such a file
    is left where no server seemed to run, and one was just starting on the file before.
    """
    if actual.config is None or actual.known is None or not actual.available:
        return None
    labels = {label: version for label, version in actual.config.labels.items() if version in actual.known}
    refused = actual.config.labels.keys() - labels.keys()
    usable = actual.available & actual.folders
    if not refused or not usable:
        return None
    for label in sorted(refused, reverse=True):  # stable first
        labels[label] = max(usable - set(labels.values()) or usable)
    return Served(actual.config.versions | usable, labels)


def _named(versions: frozenset[int]) -> str:
    return f"version{'s' if len(versions) > 1 else ''} {', '.join(map(str, sorted(versions)))}"
