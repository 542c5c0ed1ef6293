"""Splits: where examples come from, one index at a time.

Data sit in memory (or in a memory-mapped file) as uint8 levels; a batch is an index, not a worker.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bestiary.data.factors import Factors
from bestiary.data.specs import Spec
from bestiary.errors import DataError
from bestiary.randomness import derive_seed

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
    """One part of a data set: train, validation or test.

    Attributes:
        labels: int64 class labels, shape (N,), or None. They are here whether or not batches carry them.
    """

    labels: Tensor | None = None

    @property
    @abstractmethod
    def endless(self) -> bool:
        """Whether examples are made on demand, so that there is no length and no epoch."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, indices: Tensor, *, generator: torch.Generator | None = None) -> Batch:
        """The examples at `indices`, shape (B,), int64, on the CPU.

        `generator` drives what is random about an example (dynamic binarisation, endless sources);
        without it an example is always the same.

        Raises:
            IndexError: an index that is out of range.
        """

    def __getitem__(self, index: int | slice | Tensor | Sequence[int]) -> Batch:
        if isinstance(index, slice):
            return self.take(torch.arange(*index.indices(len(self))))
        chosen = torch.as_tensor(index)
        if chosen.dtype == torch.bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"mask: found shape {tuple(chosen.shape)}, wanted ({len(self)},)")
            chosen = chosen.nonzero().squeeze(1)
        return self.take(chosen.reshape(-1))

    def batches(self, size: int, *, limit: int | None = None) -> Iterator[Batch]:
        """All examples (or the first `limit`) in order, `size` at a time; the last batch may be smaller.

        Raises:
            DataError: an endless source without a `limit`.
        """
        if not self.endless:
            limit = len(self) if limit is None else min(limit, len(self))
        if limit is None:
            raise DataError(
                "limit: found None, wanted a number of examples: an endless source has no last one"
            )
        for start in range(0, limit, size):
            yield self.take(torch.arange(start, min(start + size, limit)))

    def spread(self, n: int) -> Batch:
        """At most `n` examples from all over the split, always the same."""
        if self.endless:
            return self.take(torch.arange(n))
        n = min(n, len(self))
        return self.take(torch.arange(n) * len(self) // n)


class ArraySplit(Split):
    """Examples that are held as an array.

    Arguments:
        x: uint8 levels k of shape (N, C, H, W), in memory or memory-mapped, or float points (N, dim), or
            int64 sequences (N, length).
        levels: L of `x`; the public example is k/(L−1). None for points and sequences, which are passed
            through.
        labels: int64 class labels of the split's examples, in their order.
        rows: which rows of `x` the split consists of, in this order; all of them where it is None.
        conditional: whether batches carry the labels as their condition.
        binarise: "dynamic" draws every pixel from Bernoulli(k/(L−1)) afresh each time it is taken with a
            generator, "fixed" draws once and for all with `seed`.
        seed: of the fixed draw, which is also what "dynamic" gives without a generator.

    Raises:
        DataError: a condition without labels, anything but images to binarise, or images that are no levels
            from 0 to L−1.
    """

    def __init__(
        self,
        x: NDArray[Any] | Tensor,
        *,
        levels: int | None,
        labels: Tensor | None = None,
        rows: NDArray[np.int64] | None = None,
        conditional: bool = False,
        binarise: Binarise = "none",
        seed: int | Sequence[int] = 0,
    ) -> None:
        if conditional and labels is None:
            raise DataError("condition: found 'classes', but these data have no class labels")
        if binarise != "none" and levels is None:
            raise DataError(f"binarise: found {binarise!r}, but these data are no images")
        self.labels = labels
        self._x: NDArray[Any] = _examples(x, levels)
        self._rows = rows
        self._levels = levels
        self._conditional = conditional
        self._binarise = binarise
        self._seed = seed

    @property
    def endless(self) -> bool:
        """False: an array has a length."""
        return False

    def __len__(self) -> int:
        return len(self._x if self._rows is None else self._rows)

    def take(self, indices: Tensor, *, generator: torch.Generator | None = None) -> Batch:
        """See `Split.take`."""
        chosen: NDArray[np.int64] = indices.numpy()
        condition = self.labels[indices] if self._conditional and self.labels is not None else None
        if self._levels is None:
            return Batch(torch.from_numpy(self._stored(chosen)), condition)
        if self._binarise == "none":
            # In numpy: two torch threads would wait for each other longer than the division takes.
            x = self._stored(chosen).astype(np.float32)
            x /= self._levels - 1
        elif self._binarise == "dynamic" and generator is not None:
            k = self._stored(chosen)
            u = torch.randint(
                self._levels - 1, k.shape, generator=generator, dtype=torch.uint8, device=generator.device
            )
            x = (u.cpu().numpy() < k).astype(np.float32)  # P(u < k) = k/(L−1), u uniform on 0 … L−2
        else:
            x = np.take(self._drawn_once, chosen, axis=0).astype(np.float32)
        return Batch(torch.from_numpy(x), condition)

    def _stored(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        rows = chosen if self._rows is None else np.take(self._rows, chosen)
        return np.take(self._x, rows, axis=0)

    @cached_property
    def _drawn_once(self) -> NDArray[np.bool_]:
        assert self._levels is not None
        draw = np.random.default_rng(self._seed)
        binary = np.empty((len(self), *self._x.shape[1:]), dtype=np.bool_)
        for start in range(0, len(self), 4096):  # in pieces, so that the noise needs no second copy
            k = self._stored(np.arange(start, min(start + 4096, len(self))))
            binary[start : start + 4096] = draw.integers(self._levels - 1, size=k.shape, dtype=np.uint8) < k
        return binary


def _examples(x: NDArray[Any] | Tensor, levels: int | None) -> NDArray[Any]:
    """Levels of images, checked, without a copy; float64 points as float32, which networks compute with."""
    found: NDArray[Any] = np.asarray(x)
    if levels is None:
        return found.astype(np.float32) if found.dtype == np.float64 else found
    if found.dtype.kind not in "bui":
        raise DataError(
            f"x: found {found.dtype} for images of {levels} levels, wanted whole numbers from 0 to"
            f" {levels - 1}"
        )
    bytes_are_levels = levels >= 256 and found.dtype == np.uint8
    if found.size and not bytes_are_levels and not (found.min() >= 0 and found.max() < levels):
        raise DataError(
            f"x: found levels from {found.min()} to {found.max()}, wanted them from 0 to {levels - 1}"
        )
    return found


class EndlessSplit(Split):
    """Examples made on demand by `draw(n, generator)`; they never repeat and have no epoch.

    Arguments:
        draw: makes n examples on the CPU, whatever the generator's device.
    """

    _block = 1024
    _seed = 0x626C6F636B  # a namespace of its own: no block repeats what a small seed draws elsewhere

    def __init__(self, draw: Callable[[int, torch.Generator], Batch]) -> None:
        self._draw = draw

    @property
    def endless(self) -> bool:
        """True."""
        return True

    def __len__(self) -> int:
        raise TypeError("an endless source has no length")

    def take(self, indices: Tensor, *, generator: torch.Generator | None = None) -> Batch:
        """Fresh examples, as many as there are indices; the generator alone decides which.

        Without a generator example i is a function of i: it is drawn with its block of 1,024.
        """
        if generator is not None:
            return self._draw(len(indices), generator)
        if len(indices) and int(indices.min()) < 0:
            raise IndexError(
                f"index {int(indices.min())}: an endless source has no last example to count from"
            )
        blocks, block = torch.unique(indices // self._block, return_inverse=True)
        drawn = [
            self._draw(self._block, torch.Generator().manual_seed(derive_seed(self._seed, int(number))))
            for number in blocks
        ]
        place = block * self._block + indices % self._block
        x = torch.cat([batch.x for batch in drawn])[place]
        conditions = [batch.condition for batch in drawn if batch.condition is not None]
        return Batch(x, torch.cat(conditions)[place] if conditions else None)


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
        factors: what the examples are made of, where that is known, or None.
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
    factors: Factors | None = None


def flat_parts(split: Split, numbers: int = 2**26) -> Iterator[Tensor]:
    """All examples of a split with an end as rows (m, d), a part of at most so many numbers at a time."""
    dimensions = max(1, split.take(torch.arange(1)).x.numel())
    for batch in split.batches(max(1, numbers // dimensions)):
        yield batch.x.flatten(1)


def digest_of_examples(data: Data, n: int = 256) -> str:
    """A SHA-256 of some examples of every split: a fingerprint for data that came without one."""
    found = hashlib.sha256()
    for split in (data.train, data.validation, data.test):
        batch = split.spread(n)
        found.update(str((split.endless or len(split), batch.x.dtype, tuple(batch.x.shape))).encode())
        for part in (batch.x, batch.condition):
            found.update(b"" if part is None else part.contiguous().numpy().tobytes())
    return found.hexdigest()


def split_to_fit(data: Split | Data) -> Split:
    """What a model in closed form is fitted to: a split itself, or the training split of a data set."""
    return data.train if isinstance(data, Data) else data
