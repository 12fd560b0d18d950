"""params.yaml as typed values: a frozen dataclass a section, each field with its range."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform

import yaml
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from training.stage.errors import BadInput

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(gt=0)]
CountOrNone = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

APPLICATION_SECTIONS = ("candidate", "audit", "schedules")
"""Sections of params.yaml that no stage depends on: pipelines/workspace/params.py knows what is in them."""

_KINDS = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "finite_number": "a finite number",
}

Section = TypeVar("Section")


@dataclass_transform(frozen_default=True)
def section(kind: type[Section]) -> type[Section]:
    """A section of params.yaml: a frozen dataclass that refuses values of another type or out of their range."""
    return cast(type[Section], pydantic_dataclass(frozen=True, config=ConfigDict(strict=True))(kind))


@section
class Split:
    """Which products and scenes train, validate and test; see training/dataset/manifest.py."""

    salt: str = "photoproof"
    validation: Share = 0.15
    """Share of scenes that validate."""
    test: Share = 0.2
    """Share of scenes that test."""
    new_products: Share = 0.25
    """Share of products that never train, divided between validation and test as the scenes are."""
    scene_run: Count = 8
    """Photos numbered in a row that count as one scene where no scene is given."""


@section
class Validate:
    """What a picture must be to enter training; training/validation/measure.py says how each is measured."""

    max_quarantine_share: Share = 0.05
    """A larger share of pictures set aside stops the stage."""
    min_side: Count = 32
    """Pixels."""
    min_light: Share = 0.03
    """Of the mean light, 0 black to 1 white."""
    max_light: Share = 0.985
    min_light_spread: Share = 0.02
    max_near_white: Share = 0.995
    """Share of a picture."""
    min_sharpness: NotNegative = 0.003
    duplicate_distance: Annotated[int, Field(ge=0, le=64)] = 4
    """Bits of 64 in which the perceptual hashes of two pictures may differ for them to be nearly equal: a photo that is
    so to an original, or to a photo of another split, is set aside."""
    max_drift_size: Share = 0.2
    """Share of the photos that may have moved, in size, since the champion's data: the largest difference between the
    shares of both below some value (Kolmogorov-Smirnov), beyond what chance does to so few."""
    max_drift_light: Share = 0.2
    max_drift_sharpness: Share = 0.2
    max_drift_photos: Share = 0.2
    """The same of the products and how many photos each has."""
    stop_on_drift: bool = False
    """Whether a larger drift stops the stage; else it is only reported."""


@section
class Train:
    """The autoencoder and its training."""

    seed: Annotated[int, Field(ge=0)] = 1
    encoder: str = "scratch"
    """"scratch", a small residual network; or, from ImageNet weights, "efficientnet_lite0" or one of keras.applications
    by its name, such as "EfficientNetV2B0"."""
    weights: str = ""
    """A file with the encoder's first weights; by default those of the extra `imagenet` for efficientnet_lite0, and
    Keras's own download for the others."""
    image_size: Count = 64
    """Pixels a side of what the encoder sees."""
    latent_size: Count = 128
    decoded_size: Annotated[int, Field(gt=0, multiple_of=16)] = 64
    """Pixels a side of what the decoder draws; a multiple of 16."""
    frozen_blocks: CountOrNone = 0
    """Of efficientnet_lite0's 16 blocks, how many from the first on keep their first weights, with the stem: the most
    pixels at the least change, so half the time; 0: none."""
    fixed_weight: NotNegative = 0.0
    """Weight, beside the latent's 1, of what the encoder's ImageNet weights make of a picture; 0: nothing."""
    fixed_size: Count = 256
    """How many principal components of that."""
    epochs: Count = 28
    """An epoch is as many steps as it takes to see each training photo about once."""
    products_per_step: Count = 12
    photos_per_product: Count = 3
    drawn_share: Share = 0.25
    """Share of a step's photos that are made from the product's original instead of taken."""
    backbone_rate: Positive = 2e-3
    """Learning rate of the encoder below its latent; for ImageNet weights 3e-4: 1e-3 collapses."""
    head_rate: Positive = 2e-3
    """Learning rate of the latent's layer and the decoder."""
    weight_decay: NotNegative = 0.01
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """AdamW's memory of squared gradients; 0.97 learns faster where there are only a few hundred steps."""
    temperature: Positive = 0.07
    """Of the classification among originals and of the contrast among a step's pictures."""
    reconstruct_weight: NotNegative = 1.0
    classify_weight: NotNegative = 1.0
    contrast_weight: NotNegative = 0.5
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """Of the steps' arithmetic: "float32" or "mixed_bfloat16"; what is saved computes in float32."""
    validate_every: CountOrNone = 7
    """Epochs between measurements on the validation split; 0: only one, at the end."""
    patience: CountOrNone = 0
    """Measurements without a better mean of validation AUCs after which training ends; the best one's weights are kept.
    0: all epochs, and the last weights."""
    checkpoint_every: CountOrNone = 60
    """Seconds between checkpoints; 0: one after each step."""
    cache_gigabytes: NotNegative = 2.0
    """Decoded pictures are held in memory where they fit into this, else decoded again each epoch."""


@section
class Evaluate:
    """How scores become verdicts, and what rates the team can bear."""

    false_accept_rate: Rate = 0.01
    """Share of wrong products that may pass: sets accept_at on the validation pairs."""
    false_reject_rate: Rate = 0.01
    """Share of right products that may be turned down: sets reject_at on the validation pairs."""
    prior_match: Rate = 0.95
    """Share of genuine claims that the team expects in an audit."""
    temperature: Positive = 0.05
    """T of the log-ratio against the catalogue."""
    cohort_max: CountOrNone = 4096
    """Originals that a claim is judged against, at most; 0 turns the cohort off (plain cosine)."""
    trained_stretch: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.4
    """How much further a photo counts as being from a product that trained, where it falls short of what that
    product's own photos reach: more finds more new products, less tells known ones apart better; 1: all alike."""
    own_copy_cosine: Annotated[float, Field(ge=-1, le=1)] = 0.95
    """The cohort's row nearest to the claimed original is its own copy only above this cosine."""
    pairs_max: Count = 1_000_000
    """Pairs measured in each of validation and test, at most: whole photos are left out, by hash."""
    bootstrap: CountOrNone = 200
    """Draws of products behind each confidence interval."""
    batch: Count = 64
    """Pictures encoded at once."""
    baseline_epochs: CountOrNone = 25
    """Epochs of the plain autoencoder that the report sets beside the model; 0: none is trained."""
    golden_pairs: CountOrNone = 8
    """Test pairs whose bytes and scores travel with the model."""


@section
class Export:
    """Limits of the served graph."""

    max_pixels: Count = 25_000_000
    """A picture whose header states more is never decoded."""


@section
class Workers:
    """Where pictures are measured and embedded; results do not depend on it, so no stage runs again for it."""

    dask: str = ""
    """Address of a Dask scheduler, such as tcp://scheduler:8786; empty: this machine alone."""
    processes: Count | None = None
    """Without Dask, processes that measure; as many as cores by default. TensorFlow embeds on all cores by itself."""


@dataclass(frozen=True)
class Params:
    """Everything that a stage may depend on."""

    split: Split = field(default_factory=Split)
    validate: Validate = field(default_factory=Validate)
    train: Train = field(default_factory=Train)
    evaluate: Evaluate = field(default_factory=Evaluate)
    export: Export = field(default_factory=Export)
    workers: Workers = field(default_factory=Workers)


def read_params(path: Path | str = "params.yaml") -> Params:
    """Read params.yaml; what it leaves out has its default. The application's own sections are not looked into.

    Raises BadInput as `read_sections` does.
    """
    return Params(**read_sections(Path(path), section_kinds(Params()), APPLICATION_SECTIONS))


def section_kinds(params: Any) -> dict[str, type]:
    """The dataclass of each section, by its name, of Params or of the application's like."""
    return {item.name: type(getattr(params, item.name)) for item in fields(params)}


def read_sections(path: Path, kinds: Mapping[str, type], others: tuple[str, ...]) -> dict[str, Any]:
    """The sections of params.yaml that `kinds` names, each as its dataclass; `others` are known and not looked into.

    Raises BadInput for a missing file, a section or key that is not known (naming the nearest that is) and a value of
    another type or out of its range.
    """
    try:
        loaded = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise BadInput(f"{path} not found: run this in a workspace (a clone with params.yaml)") from None
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not YAML: {str(error).replace(chr(10), ' ')}") from None
    given = _mapping(loaded or {}, path, "the file")
    _refuse_unknown(given, [*kinds, *others], path, "")
    return {name: _section(kind, given.get(name, {}), path, name) for name, kind in kinds.items()}


def _section(kind: type, values: Any, path: Path, name: str) -> Any:
    given = _mapping(values, path, name)
    _refuse_unknown(given, [item.name for item in fields(kind)], path, f"{name}.")
    try:
        return kind(**given)
    except ValidationError as error:
        problem = error.errors()[0]
        key, value = problem["loc"][0], problem["input"]
        raise BadInput(f"{path}: {name}.{key} {_expectation(problem)}, not {value!r}{_hint(value)}") from None


def _mapping(values: Any, path: Path, at: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise BadInput(f"{path}: {at} must be a mapping, not {type(values).__name__}")
    return values


def _refuse_unknown(given: Mapping[str, Any], known: list[str], path: Path, prefix: str) -> None:
    for key in given:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise BadInput(f"{path}: unknown key {prefix}{key}; the nearest known one is {nearest}")


def _expectation(problem: Any) -> str:
    """What a value should be: "must be a valid integer", "must be greater than 0"."""
    kind = _KINDS.get(problem["type"])
    if kind:
        return f"must be {kind}"
    return problem["msg"].removeprefix("Value error, ").replace("Input should be ", "must be ")


def _hint(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value.strip()):
        base, exponent = re.split("[eE]", value.strip())
        return f" (YAML reads {value} as text: write {base}.0e{exponent if exponent[0] in '+-' else '+' + exponent})"
    return ""
