"""Nearest neighbours in feature space, in chunks: no N × M matrix, whatever N and M."""

from collections.abc import Iterable

import torch
from torch import Tensor

from bestiary.errors import DataError
from bestiary.metrics.distances import (
    MEMORY,
    Block,
    Points,
    comparable,
    exact_squares,
    rows_at_a_time,
    slices,
)
from bestiary.metrics.features import Array, check_features

# So many candidates more than asked for are compared in float64, and so many if that does not settle it.
_SPARE, _MORE = 2, 6


def nearest_neighbours(
    *, queries: Array, references: Array, k: int = 1, memory: int = MEMORY
) -> tuple[Tensor, Tensor]:
    """The k references nearest to each query, by Euclidean distance.

    Arguments:
        queries: (n, d).
        references: (m, d) with m ≥ k.
        k: neighbours per query.
        memory: bytes to keep to, beside the features, a float32 copy of them and the result.

    Returns:
        Distances (n, k), float64, ascending, and indices into references (n, k), int64.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or fewer than k references.
        OptionError: too little memory for a single pair.
    """
    x = check_features("queries", queries, minimum=1)
    y = check_features("references", references, minimum=k)
    if x.shape[1] != y.shape[1]:
        found, wanted = x.shape[1], y.shape[1]
        raise DataError(f"queries: found {found} features an example, wanted {wanted} as in references")
    size = rows_at_a_time(memory, x.shape[1])
    of_references, of_queries = comparable(y, x)
    best = _Nearest(len(x), min(k + _MORE, len(y)))
    for rows in slices(len(x), size):
        for columns in slices(len(y), size):
            best.offer(rows, Block(of_queries, of_references, rows, columns).lower, columns.start)
    squares, indices = _settled(best, of_queries, of_references, k, size, others=False)
    return squares.sqrt_(), indices


def nearest_in_parts(
    *, queries: Array, parts: Iterable[Array], memory: int = MEMORY
) -> tuple[Tensor, Tensor, int]:
    """As `nearest_neighbours` with k = 1, of references that come a part (m_i, d) at a time.

    Returns:
        Distances (n,), indices into all references (n,), and the number of these.

    Raises:
        DataError: as `nearest_neighbours`; no references at all.
    """
    distances = torch.full((len(queries),), torch.inf, dtype=torch.float64)
    indices, total = torch.zeros(len(queries), dtype=torch.int64), 0
    for part in parts:
        found, where = nearest_neighbours(queries=queries, references=part, memory=memory)
        nearer = found[:, 0] < distances
        distances = torch.where(nearer, found[:, 0], distances)
        indices = torch.where(nearer, where[:, 0] + total, indices)
        total += len(part)
    if not total:
        raise DataError("references: found none, wanted at least one example")
    return distances, indices, total


def neighbours_within(points: Points, k: int, *, memory: int = MEMORY) -> tuple[Tensor, Tensor]:
    """Each example's k nearest others in the same set: squared distances (n, k), ascending, and indices.

    Each pair of chunks is computed only once.
    """
    n = len(points)
    size = rows_at_a_time(memory, points.d)
    best = _Nearest(n, min(k + _MORE, n - 1))
    for rows in slices(n, size):
        for columns in slices(n, size, rows.start):
            lower = Block(points, points, rows, columns).lower
            if rows == columns:
                lower.fill_diagonal_(torch.inf)
            else:
                best.offer(columns, lower.T.contiguous(), rows.start)
            best.offer(rows, lower, columns.start)
    return _settled(best, points, points, k, size, others=True)


class _Nearest:
    """The candidates of the smallest lower bounds seen so far, of each of n queries; ascending."""

    def __init__(self, n: int, width: int) -> None:
        self.lower = torch.full((n, width), torch.inf, dtype=torch.float64)
        self.indices = torch.zeros(n, width, dtype=torch.int64)

    def offer(self, rows: slice, lower: Tensor, start: int) -> None:
        """Take bounds (rows, m) of the distances to the candidates start … start + m − 1 into account."""
        width = self.indices.shape[1]
        near = lower.topk(min(width, lower.shape[1]), dim=1, largest=False)
        bounds = torch.cat([self.lower[rows], near.values], dim=1)
        indices = torch.cat([self.indices[rows], near.indices + start], dim=1)
        best = bounds.topk(width, dim=1, largest=False, sorted=True)
        self.lower[rows] = best.values
        self.indices[rows] = indices.gather(1, best.indices)


def _settled(
    best: _Nearest, x: Points, y: Points, k: int, size: int, *, others: bool
) -> tuple[Tensor, Tensor]:
    """Exact squared distances (n, k) and indices of the nearest, of candidates known by lower bounds.

    Candidates are compared in float64 until no other can be among the k nearest; where those that were kept
    are too few for that, all distances are computed in float64.
    """
    squares = torch.empty(len(x), k, dtype=torch.float64)
    indices = torch.empty(len(x), k, dtype=torch.int64)
    open_rows, kept = torch.arange(len(x)), best.indices.shape[1]
    for width in (min(k + _SPARE, kept), kept):
        exact, found = _in_order(best.indices[open_rows, :width], x, y, open_rows)
        squares[open_rows], indices[open_rows] = exact[:, :k], found[:, :k]
        if width == len(y) - others:
            return squares, indices
        of_the_next = best.lower[open_rows, min(width, kept - 1)] * x.scale**2
        open_rows = open_rows[exact[:, k - 1] > of_the_next]
    for rows in (open_rows[part] for part in slices(len(open_rows), size)):
        again = _Nearest(len(rows), kept)
        for columns in slices(len(y), size):
            lower = Block(x, y, rows, columns, torch.float64).lower
            if others:
                lower[rows[:, None] == torch.arange(columns.start, columns.stop)] = torch.inf
            again.offer(slice(None), lower, columns.start)
        exact, found = _in_order(again.indices, x, y, rows)
        squares[rows], indices[rows] = exact[:, :k], found[:, :k]
    return squares, indices


def _in_order(candidates: Tensor, x: Points, y: Points, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates (n, width) of these n rows of x by their exact squared distances, and those."""
    width = candidates.shape[1]
    queries = rows.repeat_interleave(width)
    squares = exact_squares(x.features, queries, y.features, candidates.flatten()).view(-1, width)
    order = squares.argsort(dim=1, stable=True)
    return squares.gather(1, order), candidates.gather(1, order)
