"""The one place that names devices: where training runs, in which precision, and with how many ranks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from torch import nn

from bestiary.data.specs import ImageSpec
from bestiary.errors import OptionError
from bestiary.models.base import Model
from bestiary.randomness import derive_seed
from bestiary.training.ranks import ALONE, Ranks, join_ranks, local_rank

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Runtime:
    """How a training is computed.

    Attributes:
        device: where.
        precision: of costs; weights are float32 in both.
        compiled: whether the model's `compiled` submodules go through `torch.compile`.
        ranks: this process among those that train together.
    """

    device: torch.device
    precision: Literal["float32", "bfloat16"]
    compiled: bool = False
    ranks: Ranks = ALONE

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Costs run under bfloat16 autocast where the precision says so."""
        if self.precision == "float32":
            yield
        else:
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                yield

    def place(self, model: Model) -> None:
        """Move a model to the device; networks of images become channels-last, which is faster."""
        model.to(self.device)
        if isinstance(model.spec, ImageSpec):
            nn.Module.to(model, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ranks.prepare(model)

    def generator(self, seed: int) -> torch.Generator:
        """A seeded generator on the device."""
        return torch.Generator(self.device).manual_seed(seed)

    def seed_dropout(self, seed: int) -> None:
        """Seed the device's global generator, on every rank differently.

        `torch.manual_seed` would also prepare all devices that are not there, half a millisecond a call.
        """
        own = derive_seed(seed, self.ranks.rank) if self.ranks.rank else seed
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(own)
        else:
            torch.manual_seed(own)


def choose_device(device: str = "auto") -> torch.device:
    """A device by its name; "auto" is the fastest there is.

    Raises:
        OptionError: a device that this machine does not have.
    """
    if device == "auto":
        if torch.cuda.is_available():
            device = f"cuda:{local_rank()}"
        else:
            device = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(
            f"device: found {device!r}, which this machine does not have; wanted auto or cpu"
        ) from error
    return chosen


def device_for(model: Model, device: str = "auto") -> torch.device:
    """A device by its name, that a model can be moved to; "auto" is the fastest there is.

    Raises:
        OptionError: a device that this machine does not have, or one without float64 for a model in float64.
    """
    chosen = choose_device(device)
    in_float64 = any(tensor.dtype == torch.float64 for tensor in chain(model.parameters(), model.buffers()))
    if chosen.type == "mps" and in_float64:
        if device != "auto":
            raise OptionError(
                f"device: found {device!r}, which has no float64, but {type(model).__name__} is computed"
                " in it; wanted auto or cpu"
            )
        chosen = torch.device("cpu")
    return chosen


def choose_runtime(model: Model, *, device: str = "auto", precision: Precision = "auto") -> Runtime:
    """The runtime for a model: the fastest device there is, bfloat16 where hardware and model allow it.

    Raises:
        OptionError: see `device_for`; or bfloat16 for a model that refuses it.
    """
    ranks = join_ranks()
    chosen = device_for(model, device)
    if precision == "bfloat16" and not model.bfloat16_safe:
        raise OptionError(f"precision: found bfloat16, but {type(model).__name__} wants float32")
    if precision == "auto":
        precision = "bfloat16" if model.bfloat16_safe and _has_bfloat16(chosen) else "float32"
    if precision not in ("float32", "bfloat16"):
        raise OptionError(f"precision: found {precision!r}, wanted auto, float32 or bfloat16")
    return Runtime(chosen, precision, ranks=ranks)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
