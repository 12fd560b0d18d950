"""params.yaml as typed values: one frozen dataclass a stage, read here and nowhere else."""

import dataclasses
import difflib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from training.stage.errors import BadInput


@dataclass(frozen=True)
class Split:
    """Which products and scenes train, validate and test; see training/dataset/manifest.py."""

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
    """What a picture must be to enter training; training/validation/measure.py says how each is measured."""

    max_quarantine_share: float = 0.05
    """A larger share of pictures set aside stops the stage."""
    min_side: int = 32
    """Pixels."""
    min_light: float = 0.03
    """Of the mean light, 0 black to 1 white."""
    max_light: float = 0.985
    min_light_spread: float = 0.02
    max_near_white: float = 0.995
    """Share of a picture."""
    min_sharpness: float = 0.003
    duplicate_distance: int = 4
    """Bits of 64 in which the perceptual hashes of two pictures may differ for them to be nearly equal: a photo that is
    so to an original, or to a photo of another split, is set aside."""
    max_drift_size: float = 0.2
    """Share of the photos that may have moved, in size, since the champion's data: the largest difference between the
    shares of both below some value (Kolmogorov-Smirnov), beyond what chance does to so few."""
    max_drift_light: float = 0.2
    max_drift_sharpness: float = 0.2
    max_drift_photos: float = 0.2
    """The same of the products and how many photos each has."""
    stop_on_drift: bool = False
    """Whether a larger drift stops the stage; else it is only told."""


@dataclass(frozen=True)
class Train:
    """The autoencoder and its training."""

    seed: int = 1
    encoder: str = "scratch"
    """"scratch", a small residual network; or, from ImageNet weights, "efficientnet_lite0" or one of keras.applications
    by its name, such as "EfficientNetV2B0"."""
    weights: str = ""
    """A file with the encoder's first weights; by default those of the extra `imagenet` for efficientnet_lite0, and
    Keras's own download for the others."""
    image_size: int = 64
    """Pixels a side of what the encoder sees."""
    latent_size: int = 128
    decoded_size: int = 64
    """Pixels a side of what the decoder draws; a multiple of 16."""
    frozen_blocks: int = 0
    """Of efficientnet_lite0's 16 blocks, how many from the first on keep their first weights, with the stem: the most
    pixels at the least change, so half the time; 0: none."""
    fixed_weight: float = 0.0
    """Weight, beside the latent's 1, of what the encoder's ImageNet weights make of a picture; 0: nothing."""
    fixed_size: int = 256
    """How many principal components of that."""
    epochs: int = 28
    """An epoch is as many steps as it takes to see each training photo about once."""
    products_per_step: int = 12
    photos_per_product: int = 3
    drawn_share: float = 0.25
    """Share of a step's photos that are made from the product's original instead of taken."""
    backbone_rate: float = 2e-3
    """Learning rate of the encoder below its latent; for ImageNet weights 3e-4: 1e-3 collapses."""
    head_rate: float = 2e-3
    """Learning rate of the latent's layer and the decoder."""
    weight_decay: float = 0.01
    beta_2: float = 0.999
    """AdamW's memory of squared gradients; 0.97 learns faster where there are only a few hundred steps."""
    temperature: float = 0.07
    """Of the classification among originals and of the contrast among a step's pictures."""
    reconstruct_weight: float = 1.0
    classify_weight: float = 1.0
    contrast_weight: float = 0.5
    precision: str = "float32"
    """Of the steps' arithmetic: "float32" or "mixed_bfloat16"; what is saved computes in float32."""
    validate_every: int = 7
    """Epochs between looks at the validation split; 0: only one, at the end."""
    patience: int = 0
    """Looks without a better mean of validation AUCs after which training ends; the best look's weights are kept.
    0: all epochs, and the last weights."""
    checkpoint_every: int = 60
    """Seconds between checkpoints."""
    cache_gigabytes: float = 2.0
    """Decoded pictures are held in memory where they fit into this, else decoded again each epoch."""


@dataclass(frozen=True)
class Evaluate:
    """How scores become verdicts, and what rates the team can bear."""

    false_accept_rate: float = 0.01
    """Share of wrong products that may pass: sets accept_at on the validation pairs."""
    false_reject_rate: float = 0.01
    """Share of right products that may be turned down: sets reject_at on the validation pairs."""
    prior_match: float = 0.95
    """Share of genuine claims that the team expects in an audit."""
    temperature: float | None = 0.05
    """T of the log-ratio against the catalogue; null: chosen on the validation pairs."""
    cohort_max: int = 4096
    """Originals that a claim is judged against, at most; 0 turns the cohort off (plain cosine)."""
    trained_stretch: float = 1.4
    """How much further a photo counts as being from a product that trained, where it falls short of what that
    product's own photos reach: more finds more new products, less tells known ones apart better; 1: all alike."""
    own_copy_cosine: float = 0.95
    """The cohort's row nearest to the claimed original is its own copy only above this cosine."""
    pairs_max: int = 1_000_000
    """Pairs measured in each of validation and test, at most: whole photos are left out, by hash."""
    bootstrap: int = 200
    """Draws of products behind each confidence interval."""
    batch: int = 64
    """Pictures encoded at once."""
    baseline_epochs: int = 25
    """Epochs of the plain autoencoder that the report sets beside the model; 0: none is trained."""
    golden_pairs: int = 8
    """Test pairs whose bytes and scores travel with the model."""


@dataclass(frozen=True)
class Export:
    """Limits of the served graph."""

    max_pixels: int = 25_000_000
    """A picture whose header states more is never decoded."""


@dataclass(frozen=True)
class Candidate:
    """What a model must reach on its test pairs to be a challenger; "known" products train, "new" ones never do.

    The floors hold for every model. Where there is a champion, the rest compares the two on the held-out pairs that
    both have measured.
    """

    min_auc: float = 0.85
    """Known products."""
    min_new_auc: float = 0.6
    """New products, where the split has any."""
    max_eer: float = 0.25
    """Known products."""
    min_share_decided: float = 0.05
    """Known products, at the thresholds that the team's rates set."""
    max_share_lost: float = 0.05
    """How much smaller than the champion's the share decided may be, at the lower bound of their difference."""
    confidence: float = 0.95
    """Of that bound (one-sided) and of the error rates' intervals."""
    bootstrap: int = 2000
    """Draws of products behind the bound and the intervals."""
    min_photos: int = 30
    """Held-out photos that both models must have measured, to be compared at all."""
    min_category_photos: int = 30
    """Of those, photos of a category that is compared by itself."""
    max_category_lost: float = 0.15
    """How much smaller than the champion's the share decided rightly may be in such a category."""
    max_slowdown: float = 1.5
    """How much longer than the champion encoding may take, both measured in turn in one process."""


@dataclass(frozen=True)
class Audit:
    """What `photoproof audit` gives to people, and what it tells them."""

    sample_share: float = 0.01
    """Share of all verdicts, drawn by a hash of model and photo, that a person looks at too: for the live rates."""
    confidence: float = 0.95
    """Of the live rates' intervals."""
    duplicate_distance: int = 4
    """Bits of 64 in which the perceptual hashes of two photos may differ for them to count as one picture."""
    shown: int = 48
    """Pairs on each contact sheet of the report, at most; 0: all."""


@dataclass(frozen=True)
class Workers:
    """Where pictures are measured and embedded; results do not depend on it, so no stage runs again for it."""

    dask: str = ""
    """Address of a Dask scheduler, such as tcp://scheduler:8786; empty: this machine alone."""
    processes: int | None = None
    """Without Dask, processes that measure; as many as cores by default. TensorFlow embeds on all cores by itself."""


@dataclass(frozen=True)
class Schedules:
    """When `photoproof flows serve` starts each flow by itself, as cron lines; an empty one: only when asked."""

    retrain: str = ""
    deploy: str = ""
    """`photoproof deploy --watch` follows MLflow within seconds; this is for those who want an hour of the day."""
    shadow: str = ""
    audit: str = ""
    timezone: str = "UTC"


@dataclass(frozen=True)
class Params:
    """Everything that a retraining may turn."""

    split: Split = field(default_factory=Split)
    validate: Validate = field(default_factory=Validate)
    train: Train = field(default_factory=Train)
    evaluate: Evaluate = field(default_factory=Evaluate)
    export: Export = field(default_factory=Export)
    candidate: Candidate = field(default_factory=Candidate)
    audit: Audit = field(default_factory=Audit)
    workers: Workers = field(default_factory=Workers)
    schedules: Schedules = field(default_factory=Schedules)


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
    allowed = typing.get_args(kind) or (kind,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if any(type(value) is one for one in allowed):
        return value
    names = " or ".join("nothing" if one is type(None) else one.__name__ for one in allowed)
    raise BadInput(f"{path}: {where} must be {names}, not {value!r}")
