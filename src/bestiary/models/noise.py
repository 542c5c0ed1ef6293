"""Noise for costs and for samples: from a training step, or from the caller's generator."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bestiary.models.base import Model


class Noise(Protocol):
    """Where draws come from: a training `Step`, or `Draws` outside of training."""

    def normal(self, *shape: int) -> Tensor:
        """Standard normal noise for every example, (B, *shape)."""

    def uniform(self, *shape: int) -> Tensor:
        """Noise uniform on [0, 1) for every example, (B, *shape)."""


@dataclass(frozen=True)
class Draws:
    """Noise for `n` examples of a model, from the caller's generator."""

    model: Model
    n: int
    generator: torch.Generator | None

    def normal(self, *shape: int) -> Tensor:
        """See `Noise.normal`."""
        return self.model.normal(self.n, *shape, generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        """See `Noise.uniform`."""
        return self.model.uniform(self.n, *shape, generator=self.generator)
