"""Mean and covariance of features that need never be in memory all at once."""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from bestiary.errors import DataError
from bestiary.metrics.features import Array, check_features, chunks

# Rows at a time fill 16 MB: large enough for the products, and small enough that memory is used again and
# not asked for anew, which costs more than the subtraction that it is for.
_CHUNK_NUMBERS = 2**21


def gram(x: Tensor) -> Tensor:
    """xᵀx, float64, for x of shape (n, d)."""
    return _mirrored(_add_gram(x.new_zeros(x.shape[1], x.shape[1]), x))


def symmetric_eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (d,), ascending, and eigenvectors (d, d) in columns, of a symmetric matrix.

    By NumPy's LAPACK, which takes a sixth less time for it than torch's.
    """
    with _threads_as_torch():
        values, vectors = np.linalg.eigh(matrix.numpy())
    return torch.from_numpy(values), torch.from_numpy(vectors)


class FeatureStatistics:
    """Number, mean (d,) and scatter Σ(x − mean)(x − mean)ᵀ (d, d) in float64, updated batch by batch.

    Two sets are joined without loss of precision by the pairwise formula of *Algorithms for Computing the
    Sample Variance* (Chan, Golub & LeVeque, 1983), so the order and size of batches does not matter.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self._upper = torch.zeros(0, 0, dtype=torch.float64)  # the scatter; below the diagonal unspecified

    def update(self, features: Array) -> Self:
        """Add a batch of features, shape (n, d).

        Raises:
            DataError: another shape or d, or values that are not finite.
        """
        x = check_features("features", features, minimum=1)
        for _, chunk in chunks(x, max(256, _CHUNK_NUMBERS // x.shape[1])):
            mean = chunk.mean(dim=0)
            self._shift(len(chunk), mean)
            self._upper = _add_gram(self._upper, chunk - mean)
        return self

    def merge(self, other: "FeatureStatistics") -> Self:
        """Add all that `other` has seen.

        Raises:
            DataError: another d.
        """
        if other.n:
            self._shift(other.n, other.mean)
            self._upper += other._upper
        return self

    @property
    def scatter(self) -> Tensor:
        """Σ(x − mean)(x − mean)ᵀ (d, d)."""
        return _mirrored(self._upper.clone())

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance (d, d), divided by n − 1.

        Raises:
            DataError: fewer than two examples so far.
        """
        if self.n < 2:
            raise DataError(f"features: found {self.n} examples, wanted at least 2")
        return self.scatter.div_(self.n - 1)

    def _shift(self, n: int, mean: Tensor) -> None:
        """Join n examples of that mean, as if all of them were equal to it."""
        if not self.n:
            self.mean = torch.zeros_like(mean)
            self._upper = mean.new_zeros(len(mean), len(mean))
        if mean.shape != self.mean.shape:
            raise DataError(f"features: found {len(mean)} an example, wanted {len(self.mean)} as before")
        step = mean - self.mean
        total = self.n + n
        self._upper.addr_(step, step, alpha=self.n * n / total)
        self.mean = self.mean + step * (n / total)
        self.n = total


def _add_gram(upper: Tensor, x: Tensor) -> Tensor:
    """A matrix plus xᵀx, on and above its diagonal; in place where it lies row by row in memory."""
    from scipy.linalg.blas import dsyrk  # here, because it takes a while to import

    # Fortran reads a matrix by columns: what it is given are transposes, and its lower triangle is the upper.
    rows_in_order = x.is_contiguous()
    factor = x.numpy().T if rows_in_order else x.numpy()
    with _threads_as_torch():
        lower = dsyrk(
            1.0, factor, beta=1.0, c=upper.numpy().T, trans=not rows_in_order, lower=True, overwrite_c=True
        )
    return torch.from_numpy(lower.T)


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def _threads_as_torch() -> AbstractContextManager[Any]:
    """Within it the libraries under NumPy and SciPy use as many threads as torch was told to."""
    limited: AbstractContextManager[Any] = _pools().limit(limits=torch.get_num_threads(), user_api="blas")
    return limited


def _mirrored(upper: Tensor) -> Tensor:
    """The symmetric matrix that has this upper triangle, made in place."""
    for start in range(0, len(upper), 256):
        stop = min(start + 256, len(upper))
        corner = upper[start:stop, start:stop]
        corner.copy_(corner.triu() + corner.triu(1).T)
        upper[stop:, start:stop] = upper[start:stop, stop:].T
    return upper
