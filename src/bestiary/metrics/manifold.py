"""Fidelity and diversity by nearest-neighbour balls around examples."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.metrics.features import Array, check_pair, chunks, protocol
from bestiary.metrics.neighbours import neighbours_within, squared_distances


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall in [0, 1], each with one standard error."""

    precision: float
    recall: float
    precision_error: float
    recall_error: float
    n_real: int
    n_fake: int
    protocol: str


@dataclass(frozen=True)
class DensityCoverage:
    """Density ≥ 0 and coverage in [0, 1], each with one standard error."""

    density: float
    coverage: float
    density_error: float
    coverage_error: float
    n_real: int
    n_fake: int
    protocol: str


def manifold_precision_recall(
    *, real: Array, fake: Array, k: int = 3, embedding: str = "features", chunk: int = 1024
) -> PrecisionRecall:
    """Improved precision and recall.

    Precision is the share of fake examples that lie inside the ball of some real example, whose radius is
    the distance to its k-th nearest other real example; recall is the share of real examples inside the
    ball of some fake one.

    The errors are delete-one jackknifes with the radii held, so they err on the long side: the binomial
    deviation of the examples that are counted, and what would be lost with each single ball.

    References: *Improved Precision and Recall Metric for Assessing Generative Models* (Kynkäänniemi et
    al., 2019), arXiv 1904.06991.

    Arguments:
        real, fake: features (n, d) and (m, d) with n, m > k; the numbers depend on n and m.
        k: neighbours that make a ball.
        embedding: what the features are, for the protocol's name.
        chunk: rows at a time; beside the features this takes about 8·chunk·(2 chunk + 2 d) bytes.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or too few examples.
    """
    x, y = _centred(*check_pair(real, fake, minimum=k + 1))
    real_squares = neighbours_within(x, k, chunk=chunk)[0][:, -1:]
    fake_squares = neighbours_within(y, k, chunk=chunk)[0][:, -1]
    precision, recall = _Cover(covered=len(y), balls=len(x)), _Cover(covered=len(x), balls=len(y))
    for rows, a in chunks(x, chunk):
        for columns, b in chunks(y, chunk):
            block = squared_distances(a, b)
            precision.add(columns, block < real_squares[rows], rows.start)
            recall.add(rows, (block < fake_squares[columns]).T, columns.start)
    return PrecisionRecall(
        *(precision.share, recall.share, precision.error, recall.error),
        *(len(x), len(y)),
        protocol("manifold-precision-recall", embedding, len(x), len(y), f"k={k}"),
    )


def density_coverage(
    *, real: Array, fake: Array, k: int = 5, embedding: str = "features", chunk: int = 1024
) -> DensityCoverage:
    """Density and coverage: robust to single outliers among the real examples, which make huge balls.

    With the ball of real example i reaching to its k-th nearest other real example: density is the mean
    over fake examples of the number of balls that each lies in, divided by k, 1 in expectation for equal
    laws; coverage is the share of balls with a fake example inside, for equal laws
    1 − Π_{i=1..k} (n − i)/(n + m − i) in expectation.

    The errors are delete-one jackknifes over the real and over the fake examples, and err on the long side.

    References: *Reliable Fidelity and Diversity Metrics for Generative Models* (Naeem et al., 2020),
    arXiv 2002.09797.

    Arguments:
        real, fake: features (n, d) and (m, d) with n > k + 1 and m > 1.
        k: neighbours that make a ball.
        embedding: what the features are, for the protocol's name.
        chunk: rows at a time; beside the features this takes about 16·chunk·(chunk + d) bytes.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or too few examples.
    """
    x, y = _centred(*check_pair(real, fake, minimum=k + 2, minimum_fake=2))
    squares, indices = neighbours_within(x, k + 1, chunk=chunk)
    coverage = _Cover(covered=len(x), balls=len(y))
    hits = torch.zeros(len(y), dtype=torch.float64)  # balls around each fake example
    inside = torch.zeros(len(x), dtype=torch.float64)  # fake examples in each ball
    wider = torch.zeros(len(x), dtype=torch.float64)  # the same if the ball reached one neighbour further
    for rows, a in chunks(x, chunk):
        for columns, b in chunks(y, chunk):
            block = squared_distances(a, b)
            near = block < squares[rows, k - 1 : k]
            coverage.add(rows, near.T, columns.start)
            hits[columns] += near.sum(dim=0)
            inside[rows] += near.sum(dim=1)
            wider[rows] += (block < squares[rows, k:]).sum(dim=1)
    # Without real example i its ball is gone, and the balls that it was a neighbour of reach further.
    gained = (wider - inside).repeat_interleave(k)
    influence = (-inside).index_add_(0, indices[:, :k].flatten(), gained) / (k * len(y))
    variance = (hits / k).var() / len(y) + (influence - influence.mean()).square().sum()
    return DensityCoverage(
        *((hits / k).mean().item(), coverage.share, variance.sqrt().item(), coverage.error),
        *(len(x), len(y)),
        protocol("density-coverage", embedding, len(x), len(y), f"k={k}"),
    )


def _centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    centre = x.double().mean(dim=0)  # keeps the cancellation in ‖a‖² − 2aᵀb + ‖b‖² small
    return x - centre, y - centre


class _Cover:
    """Which examples lie in at least one ball, and what depends on one ball alone."""

    def __init__(self, *, covered: int, balls: int) -> None:
        self._balls = balls
        self._count = torch.zeros(covered, dtype=torch.int64)
        self._ball = torch.zeros(covered, dtype=torch.int64)  # one of the balls around each example

    def add(self, columns: slice, inside: Tensor, start: int) -> None:
        """Take into account which balls start … (rows) hold which of these examples (columns)."""
        any_ball, first = inside.to(torch.uint8).max(dim=0)
        self._count[columns] += inside.sum(dim=0)
        self._ball[columns] = torch.where(any_ball.bool(), first + start, self._ball[columns])

    @property
    def share(self) -> float:
        """Share of examples that are covered."""
        return (self._count > 0).double().mean().item()

    @property
    def error(self) -> float:
        """Delete-one jackknife over the examples and over the balls, of radii that do not change."""
        n = len(self._count)
        lost = torch.bincount(self._ball[self._count == 1], minlength=self._balls) / n
        variance = self.share * (1 - self.share) / n + (lost - lost.mean()).square().sum().item()
        return math.sqrt(variance)
