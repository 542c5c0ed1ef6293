"""Mean and covariance of features that need never be in memory all at once."""

from typing import Self

import torch
from torch import Tensor

from bestiary.errors import DataError
from bestiary.metrics.features import Array, check_features, chunks

_CHUNK = 4096


def gram(x: Tensor) -> Tensor:
    """xᵀx for x of shape (n, d), computing each pair of column blocks once only."""
    n_columns = x.shape[1]
    block = max(256, -(-n_columns // 8))
    product = x.new_empty(n_columns, n_columns)
    for start in range(0, n_columns, block):
        stop = min(start + block, n_columns)
        product[start:stop, start:] = x[:, start:stop].T @ x[:, start:]
        product[stop:, start:stop] = product[start:stop, stop:].T
    return product


class FeatureStatistics:
    """Number, mean (d,) and scatter Σ(x − mean)(x − mean)ᵀ (d, d) in float64, updated batch by batch.

    Two sets are joined without loss of precision by the pairwise formula of *Algorithms for Computing the
    Sample Variance* (Chan, Golub & LeVeque, 1983), so the order and size of batches does not matter.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)

    def update(self, features: Array) -> Self:
        """Add a batch of features, shape (n, d).

        Raises:
            DataError: another shape or d, or values that are not finite.
        """
        for _, chunk in chunks(check_features("features", features, minimum=1), _CHUNK):
            mean = chunk.mean(dim=0)
            self._join(len(chunk), mean, gram(chunk - mean))
        return self

    def merge(self, other: "FeatureStatistics") -> Self:
        """Add all that `other` has seen.

        Raises:
            DataError: another d.
        """
        if other.n:
            self._join(other.n, other.mean, other.scatter)
        return self

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance (d, d), divided by n − 1.

        Raises:
            DataError: fewer than two examples so far.
        """
        if self.n < 2:
            raise DataError(f"features: found {self.n} examples, wanted at least 2")
        return self.scatter / (self.n - 1)

    def _join(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        if not self.n:
            self.n, self.mean, self.scatter = n, mean.clone(), scatter.clone()
            return
        if mean.shape != self.mean.shape:
            raise DataError(f"features: found {len(mean)} an example, wanted {len(self.mean)} as before")
        step = mean - self.mean
        total = self.n + n
        self.scatter += scatter
        self.scatter.addr_(step, step, alpha=self.n * n / total)
        self.mean = self.mean + step * (n / total)
        self.n = total
