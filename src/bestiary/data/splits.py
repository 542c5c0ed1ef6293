"""Splits: where examples come from, one index at a time.

Data sit in memory (or in a memory-mapped file) as uint8 levels; a batch is an index, not a worker.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bestiary.data.specs import Spec
from bestiary.errors import DataError

Binarise = Literal["none", "fixed", "dynamic"]


@dataclass(frozen=True)
class Batch:
    """Examples `x`, shape (B, *spec.shape), and their `condition`, or None where the spec has none."""

    x: Tensor
    condition: Tensor | None = None

    def __len__(self) -> int:
        return self.x.shape[0]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        condition = None if self.condition is None else self.condition.to(device, non_blocking=True)
        return Batch(self.x.to(device, non_blocking=True), condition)


class Split(ABC):
    """One part of a data set: train, validation or test."""

    labels: Tensor | None = None

    @property
    @abstractmethod
    def endless(self) -> bool:
        """Whether examples are made on demand, so that there is no length and no epoch."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, indices: Tensor, *, generator: torch.Generator | None = None) -> Batch:
        """The examples at `indices`, shape (B,), int64.

        `generator` drives what is random about an example (dynamic binarisation, endless sources);
        without it an example is always the same.
        """

    def __getitem__(self, index: int | slice | Tensor | Sequence[int]) -> Batch:
        if isinstance(index, slice):
            index = torch.arange(*index.indices(len(self)))
        elif isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(index)
            index = torch.tensor([index % len(self)])
        return self.take(torch.as_tensor(index))

    def batches(self, size: int, *, limit: int | None = None) -> Iterator[Batch]:
        """All examples (or the first `limit`) in order, `size` at a time; the last batch may be smaller."""
        total = len(self) if limit is None else min(limit, len(self))
        for start in range(0, total, size):
            yield self[start : min(start + size, total)]


class ArraySplit(Split):
    """Examples that are held as an array.

    Arguments:
        x: uint8 levels k of shape (N, C, H, W), in memory or memory-mapped, or float points (N, dim).
        levels: L; the public example is k/(L−1). None for points, which are passed through.
        labels: int64 class labels, shape (N,).
        conditional: whether batches carry the labels as their condition.
        binarise: "dynamic" draws every pixel from Bernoulli(k/(L−1)) afresh each time it is taken with a
            generator, "fixed" draws once and for all with `seed`.
        seed: of the fixed binarisation.
    """

    def __init__(
        self,
        x: np.ndarray[Any, Any] | Tensor,
        *,
        levels: int | None,
        labels: Tensor | None = None,
        conditional: bool = False,
        binarise: Binarise = "none",
        seed: int = 0,
    ) -> None:
        if conditional and labels is None:
            raise DataError("condition: found 'classes', but these data have no class labels")
        self.x = x
        self.labels = labels
        self._levels = levels
        self._conditional = conditional
        self._dynamic = binarise == "dynamic"
        self._fixed: Tensor | None = None
        if binarise != "none":
            if levels is None:
                raise DataError("binarise: only images can be binarised")
            generator = torch.Generator().manual_seed(seed)
            grey = torch.as_tensor(np.asarray(x)).float() / (levels - 1)
            self._fixed = torch.bernoulli(grey, generator=generator).to(torch.uint8)

    @property
    def endless(self) -> bool:
        """False: an array has a length."""
        return False

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: Tensor, *, generator: torch.Generator | None = None) -> Batch:
        """See `Split.take`."""
        condition = self.labels[indices] if self._conditional and self.labels is not None else None
        if self._fixed is not None and not (self._dynamic and generator is not None):
            return Batch(self._fixed[indices].float(), condition)
        if isinstance(self.x, Tensor):
            x = self.x[indices]
        else:
            x = torch.from_numpy(self.x[indices.numpy()])
        if self._levels is not None:
            x = x.float().div_(self._levels - 1)
        if self._dynamic:
            x = torch.bernoulli(x, generator=generator)
        return Batch(x, condition)


class EndlessSplit(Split):
    """Examples made on demand by `draw(n, generator)`; they never repeat and have no epoch."""

    def __init__(self, draw: Callable[[int, torch.Generator], Batch]) -> None:
        self._draw = draw

    @property
    def endless(self) -> bool:
        """True."""
        return True

    def __len__(self) -> int:
        raise TypeError("an endless source has no length")

    def take(self, indices: Tensor, *, generator: torch.Generator | None = None) -> Batch:
        """Fresh examples, as many as there are indices; the generator alone decides which."""
        if generator is None:
            generator = torch.Generator().manual_seed(int(indices[0]))
        return self._draw(len(indices), generator)


@dataclass(frozen=True)
class Data:
    """A data set: what one example is, and three disjoint splits of them.

    Attributes:
        name: full name, with the treatment in it ("mnist-dynamic").
        spec: what one example is.
        train, validation, test: the splits; model selection uses validation, test is read once.
        classes: names of the classes, or None.
        fingerprint: SHA-256 of everything that determines the examples.
        options: the loader's settings, so that `load_data(source, **options)` gives the same data again.
        source: the loader's name in the table of data sets.
        notes: what the person should know: files that were left out, and why.
    """

    name: str
    spec: Spec
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] | None = None
    fingerprint: str = ""
    source: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
