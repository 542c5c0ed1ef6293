"""Distances of very many pairs: float32 products with a bound on their rounding, float64 where it matters.

‖a − b‖² = ‖a‖² − 2 aᵀb + ‖b‖² in float32 takes less than half the time of float64 and lies within a known
distance of the truth: with centred examples of d numbers and the unit roundoff u = 2⁻²⁴, a product is off by
less than du/(1 − du) ‖a‖‖b‖ in any order of summation (*Accuracy and Stability of Numerical Algorithms*,
Higham, 2002, §3.1). Pairs for which that leaves a question open, usually one in thousands, are computed once
more, from the differences in float64. So every answer is the one that float64 gives.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bestiary.errors import OptionError

# Working space in bytes that nearest-neighbour metrics keep to unless told otherwise.
MEMORY = 2**27
# Of the open pairs of a block more than this share are sooner decided by float64 products of the whole block.
_FEW = 1e-3
# Roundings beside those of the product, in units of u(‖a‖² + ‖b‖²): of the examples (4), of their norms and
# the sums (7), of the threshold (2); and room for float64's own.
_OTHER_ROUNDINGS = 32
_MKLDNN: Any = torch.backends.mkldnn  # has attributes that type checkers do not see


def slices(n: int, size: int, start: int = 0) -> Iterator[slice]:
    """The rows start … n, `size` at a time."""
    for first in range(start, n, size):
        yield slice(first, min(first + size, n))


def rows_at_a_time(memory: int, d: int) -> int:
    """How many rows and columns of distances fit into that many bytes, with their examples in float64.

    Raises:
        OptionError: not even one.
    """
    pair, example = 40, 24 * d  # bytes: bounds, masks and copies of a distance; examples of both sides
    rows = int((math.sqrt(example**2 + 4 * pair * memory) - example) / (2 * pair)) if memory > 0 else 0
    if rows < 1:
        raise OptionError(f"memory: found {memory} bytes, wanted at least {pair + example} for {d} features")
    return rows - rows % 64 if rows > 64 else rows  # products of other sizes take a quarter longer


class Points:
    """Examples made ready for distances.

    Attributes:
        features: (n, d) in their own number type.
        rounded: (n, d), float32: the features less a centre, over a scale that keeps them from overflowing.
        squares: (n, 1), float32: ‖rounded‖².
        centre, scale: the same for all sets that are compared.
    """

    def __init__(self, features: Tensor, centre: Tensor, scale: float) -> None:
        self.features, self.centre, self.scale = features, centre, scale
        self.rounded = torch.empty(features.shape)
        self.squares = torch.empty(len(features), 1)
        for rows in slices(len(features), 1024):
            self.rounded[rows] = self._centred(rows)
            self.squares[rows] = self.rounded[rows].double().square_().sum(dim=1, keepdim=True)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def d(self) -> int:
        """Features an example."""
        return self.features.shape[1]

    def rows(self, which: slice | Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Centred and scaled examples (n, d), and the squares of their norms (n, 1)."""
        if dtype == torch.float32:
            return self.rounded[which], self.squares[which]
        x = self._centred(which)
        return x, x.square().sum(dim=1, keepdim=True)

    def _centred(self, which: slice | Tensor) -> Tensor:
        return (self.features[which].double() - self.centre).div_(self.scale)


def comparable(*sets: Tensor) -> tuple[Points, ...]:
    """Sets of features (n, d) of one width, with the centre of the first and one scale."""
    sums = [sets[0][rows].double().sum(dim=0) for rows in slices(len(sets[0]), 1024)]
    centre = torch.stack(sums).sum(dim=0) / len(sets[0])
    ranges = [(x[rows].double() - centre).abs_().amax() for x in sets for rows in slices(len(x), 1024)]
    greatest = torch.stack(ranges).max().item() * math.sqrt(len(centre))
    return tuple(Points(x, centre, greatest or 1.0) for x in sets)


class Block:
    """Squared distances, over scale², of some rows of x from some of y, each between two bounds.

    Attributes:
        lower, upper: (rows, columns).
    """

    def __init__(
        self, x: Points, y: Points, rows: slice | Tensor, columns: slice, dtype: torch.dtype = torch.float32
    ) -> None:
        if _MKLDNN.matmul.fp32_precision not in ("none", "ieee"):
            dtype = torch.float64  # torch was allowed to take bfloat16 for float32
        self._x, self._y, self._rows, self._columns, self._dtype = x, y, rows, columns, dtype
        a, of_a = x.rows(rows, dtype)
        b, of_b = y.rows(columns, dtype)
        number = torch.finfo(dtype)
        unit = (x.d + _OTHER_ROUNDINGS) * number.eps / 2
        slack = unit / (1 - unit) if unit < 0.5 else 1.0
        least = 4 * x.d * number.tiny  # what underflow can lose
        self.upper = torch.mm(a, b.T).mul_(-2).add_((1 + slack) * of_a + least).add_((1 + slack) * of_b.T)
        self.lower = (self.upper - 2 * slack * of_a - 2 * least).sub_(2 * slack * of_b.T)

    def below(self, squares: Tensor) -> Tensor:
        """Which squared distances are below `squares`, (rows, 1) or (1, columns): (rows, columns), bool."""
        scaled = squares / self._x.scale**2
        # Nothing is nearer than 0: where all examples are alike, nothing has to be looked at twice.
        threshold = torch.where(squares > 0, scaled, -math.inf).to(self._dtype).numpy()
        sure = np.less(self.upper.numpy(), threshold)
        unclear = np.less(self.lower.numpy(), threshold) ^ sure
        count = np.count_nonzero(unclear)
        if count > _FEW * unclear.size and self._dtype == torch.float32:
            return self._in_float64.below(squares)
        inside = torch.from_numpy(sure)
        if count:
            flat = torch.from_numpy(np.flatnonzero(unclear))
            i, j = flat // inside.shape[1], flat % inside.shape[1]
            rows = torch.arange(len(self._x))[self._rows]
            exact = exact_squares(self._x.features, rows[i], self._y.features, j + self._columns.start)
            inside[i, j] = exact < squares.expand(inside.shape)[i, j]
        return inside

    @cached_property
    def _in_float64(self) -> "Block":
        return Block(self._x, self._y, self._rows, self._columns, torch.float64)


def exact_squares(x: Tensor, i: Tensor, y: Tensor, j: Tensor) -> Tensor:
    """‖x_i − y_j‖² for index tensors i and j of one length, from the differences: float64."""
    squares = torch.empty(len(i), dtype=torch.float64)
    for part in slices(len(i), max(1, 2**17 // x.shape[1])):
        difference = x[i[part]].double().sub_(y[j[part]])
        squares[part] = difference.square_().sum(dim=1)
    return squares
