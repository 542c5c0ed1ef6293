"""Nearest neighbours in feature space, in chunks: no N × M matrix, whatever N and M."""

import torch
from torch import Tensor

from bestiary.errors import DataError
from bestiary.metrics.features import Array, check_features, chunks


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a − b‖² of rows, (n, d) and (m, d) to (n, m), by ‖a‖² − 2 aᵀb + ‖b‖²."""
    squares = b.square().sum(dim=1)
    product = torch.addmm(squares, a, b.T, alpha=-2.0)
    return product.add_(a.square().sum(dim=1, keepdim=True)).clamp_(min=0)


def nearest_neighbours(
    *, queries: Array, references: Array, k: int = 1, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """The k references nearest to each query, by Euclidean distance.

    Arguments:
        queries: (n, d).
        references: (m, d) with m ≥ k.
        k: neighbours per query.
        chunk: rows at a time; beside the features this takes about 8·chunk·(chunk + (k + 2) d) bytes.

    Returns:
        Distances (n, k), float64, ascending, and indices into references (n, k), int64.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or fewer than k references.
    """
    x = check_features("queries", queries, minimum=1)
    y = check_features("references", references, minimum=k)
    if x.shape[1] != y.shape[1]:
        found, wanted = x.shape[1], y.shape[1]
        raise DataError(f"queries: found {found} features an example, wanted {wanted} as in references")
    centre = y.double().mean(dim=0)  # keeps the cancellation in ‖a‖² − 2aᵀb + ‖b‖² small
    distances, indices = [], []
    for _, a in chunks(x, chunk):
        best = _Nearest(len(a), k)
        for rows, b in chunks(y, chunk):
            best.offer(slice(None), squared_distances(a - centre, b - centre), rows.start)
        # Once more from the differences, so that a copy is at distance 0 and not at 1e-8.
        exact = (a[:, None] - y[best.indices].double()).norm(dim=2)
        order = exact.argsort(dim=1, stable=True)
        distances.append(exact.gather(1, order))
        indices.append(best.indices.gather(1, order))
    return torch.cat(distances), torch.cat(indices)


def neighbours_within(features: Tensor, k: int, *, chunk: int) -> tuple[Tensor, Tensor]:
    """Each example's k nearest others in the same set: squared distances (n, k), ascending, and indices.

    Each pair of chunks is computed only once.
    """
    best = _Nearest(len(features), k)
    for rows, a in chunks(features, chunk):
        for columns, b in chunks(features[rows.start :], chunk):
            shifted = slice(rows.start + columns.start, rows.start + columns.stop)
            block = squared_distances(a, b)
            if columns.start == 0:
                block.fill_diagonal_(torch.inf)
            else:
                best.offer(shifted, block.T, rows.start)
            best.offer(rows, block, shifted.start)
    return best.squares, best.indices


class _Nearest:
    """The k smallest squared distances seen so far of each of n queries, ascending, and whose they are."""

    def __init__(self, n: int, k: int) -> None:
        self.squares = torch.full((n, k), torch.inf, dtype=torch.float64)
        self.indices = torch.zeros(n, k, dtype=torch.int64)

    def offer(self, rows: slice, block: Tensor, start: int) -> None:
        """Take distances (rows, m) to the candidates start … start + m − 1 into account."""
        k = self.squares.shape[1]
        near = block.topk(min(k, block.shape[1]), dim=1, largest=False)
        squares = torch.cat([self.squares[rows], near.values], dim=1)
        indices = torch.cat([self.indices[rows], near.indices + start], dim=1)
        best = squares.topk(k, dim=1, largest=False, sorted=True)
        self.squares[rows] = best.values
        self.indices[rows] = indices.gather(1, best.indices)
