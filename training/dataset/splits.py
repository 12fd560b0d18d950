"""Which products and scenes train, validate and test.

A hash of product id and scene, with a salt from params.yaml: a picture is in the same split in every data version.
"""

import re

import pandas as pd

from training.dataset.draws import hash_to_unit
from training.stage.errors import BadInput
from training.stage.params import Split

SPLITS = ("train", "validation", "test")


def scene_of(photo_id: str, scene: str | None, scene_run: int) -> str:
    """The scene as given, or else the photo id's prefix and its last number // scene_run."""
    if scene:
        return scene
    numbered = re.fullmatch(r"(.*?)(\d+)(\D*)", photo_id)
    if not numbered:
        return photo_id
    return f"{numbered[1]}#{int(numbered[2]) // scene_run}"


def assign_splits(pictures: pd.DataFrame, split: Split) -> pd.DataFrame:
    """As `splits_of`, where every split is needed.

    Raises BadInput, naming the salt, where one of the five groups of photos (known: train, validation, test; new:
    validation, test) is empty.
    """
    out = splits_of(pictures, split)
    photos = out[out.role == "photo"]
    present = set(zip(photos.known, photos.split, strict=True))
    wanted = [(True, "train"), (True, "validation"), (True, "test")]
    if split.new_products > 0:
        wanted += [(False, "validation"), (False, "test")]
    for is_known, name in wanted:
        if (is_known, name) not in present:
            kind = "known" if is_known else "new"
            raise BadInput(
                f"the {name} split has no photo of a {kind} product: choose another split.salt than {split.salt!r} "
                f"in params.yaml, other shares, or add photos "
                f"({len(photos)} photos of {photos.product_id.nunique()} products now)"
            )
    return out


def splits_of(pictures: pd.DataFrame, split: Split) -> pd.DataFrame:
    """The same rows with `known` (bool: does the product train?) and `split` ("train", "validation", "test").

    A known product's original is in "train", its photos in the split of their scene. A new product is with
    all its pictures in "validation" or in "test".
    """
    held_out = split.validation + split.test
    known, splits = [], []
    columns = pictures[["role", "picture_id", "product_id", "scene"]]
    for role, picture_id, product_id, given_scene in columns.itertuples(index=False, name=None):
        draw = hash_to_unit(split.salt, "product", product_id)
        known.append(draw >= split.new_products)
        if not known[-1]:
            draw *= held_out / split.new_products
        elif role == "photo":
            scene = scene_of(picture_id, _text(given_scene), split.scene_run)
            draw = hash_to_unit(split.salt, "scene", scene)
        else:
            draw = 1.0
        splits.append("validation" if draw < split.validation else "test" if draw < held_out else "train")
    return pictures.assign(known=known, split=splits)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
