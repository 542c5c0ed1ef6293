"""Batch order: a function of (seed, epoch), so that training resumes at any batch from one number."""

import torch
from torch import Tensor

from bestiary.errors import DataError
from bestiary.randomness import derive_seed


class BatchOrder:
    """Which examples the next batch holds.

    The examples of all epochs form one endless sequence, a fresh permutation an epoch. Position p of it
    is the number of examples drawn so far, which is all that must be remembered: a batch may straddle
    two epochs, so nothing is dropped and "2 epochs" is every example exactly twice.

    Arguments:
        size: number of examples in an epoch.
        seed: whole number ≥ 0; another seed is another order.

    Raises:
        DataError: a size below 1.
    """

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise DataError(f"size: found {size} examples, wanted at least 1")
        self._size = size
        self._seed = seed
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def indices(self, position: int, count: int) -> Tensor:
        """The `count` example indices from `position` on, shape (count,), int64."""
        parts = [torch.empty(0, dtype=torch.int64)]
        while count > 0:
            epoch, start = divmod(position, self._size)
            part = self._order(epoch)[start : start + count]
            parts.append(part)
            position, count = position + len(part), count - len(part)
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, epoch))
            self._permutation = torch.randperm(self._size, generator=generator)
            self._epoch = epoch
        return self._permutation
