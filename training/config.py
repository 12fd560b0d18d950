"""params.yaml as typed values: one frozen dataclass a stage, read here and nowhere else."""

import dataclasses
import difflib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from training.errors import BadInput


@dataclass(frozen=True)
class Split:
    """Which products and scenes train, validate and test; see training/manifest.py."""

    salt: str = "photoproof"
    validation: float = 0.15
    """Share of scenes that validate."""
    test: float = 0.2
    """Share of scenes that test."""
    new_products: float = 0.25
    """Share of products that never train, divided between validation and test as the scenes are."""
    scene_run: int = 8
    """Photos numbered in a row that count as one scene where no scene is given."""


@dataclass(frozen=True)
class Validate:
    """What a picture must be to enter training."""

    max_quarantine_share: float = 0.05


@dataclass(frozen=True)
class Train:
    """The autoencoder and its training."""

    seed: int = 1


@dataclass(frozen=True)
class Evaluate:
    """How scores become verdicts, and what rates the team can bear."""

    false_accept_rate: float = 0.01
    false_reject_rate: float = 0.01
    prior_match: float = 0.95
    """Share of genuine claims that the team expects in an audit."""


@dataclass(frozen=True)
class Export:
    """Limits of the served graph."""

    max_pixels: int = 25_000_000


@dataclass(frozen=True)
class Candidate:
    """Floors that a model must reach to be a challenger."""

    min_auc: float = 0.9


@dataclass(frozen=True)
class Params:
    """Everything that a retraining may turn."""

    split: Split = field(default_factory=Split)
    validate: Validate = field(default_factory=Validate)
    train: Train = field(default_factory=Train)
    evaluate: Evaluate = field(default_factory=Evaluate)
    export: Export = field(default_factory=Export)
    candidate: Candidate = field(default_factory=Candidate)


def read_params(path: Path | str = "params.yaml") -> Params:
    """Read params.yaml; what it leaves out has the dataclass's default.

    Raises BadInput for a missing file, a key that no dataclass knows (naming the nearest one that
    exists) and a value of another type.
    """
    path = Path(path)
    try:
        loaded = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise BadInput(f"{path} not found: run this in a workspace (a clone with params.yaml)") from None
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not YAML: {str(error).replace(chr(10), ' ')}") from None
    return _build(Params, loaded or {}, str(path), "")


def _build(kind: Any, values: Any, path: str, at: str) -> Any:
    if not isinstance(values, dict):
        raise BadInput(f"{path}: {at or 'the file'} must be a mapping, not {type(values).__name__}")
    types = typing.get_type_hints(kind)
    given = {}
    for key, value in values.items():
        where = f"{at}.{key}" if at else str(key)
        if key not in types:
            near = difflib.get_close_matches(str(key), types, n=1, cutoff=0.0)[0]
            raise BadInput(f"{path}: unknown key {where}; the nearest known one is {near}")
        if dataclasses.is_dataclass(types[key]):
            given[key] = _build(typing.cast(type, types[key]), value, path, where)
        else:
            given[key] = _checked(value, types[key], path, where)
    return kind(**given)


def _checked(value: Any, kind: Any, path: str, where: str) -> Any:
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        return tuple(value)
    allowed = typing.get_args(kind) or (kind,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if any(type(value) is one for one in allowed):
        return value
    names = " or ".join("nothing" if one is type(None) else one.__name__ for one in allowed)
    raise BadInput(f"{path}: {where} must be {names}, not {value!r}")
