"""Fidelity and diversity by nearest-neighbour balls around examples."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bestiary.config import check_count
from bestiary.metrics.distances import MEMORY, Block, Points, comparable, rows_at_a_time, slices
from bestiary.metrics.features import Array, check_pair, protocol
from bestiary.metrics.neighbours import neighbours_within

# Groups of examples that are left out one after the other: the delete-block jackknife of the error bars.
_GROUPS = 20


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
    *, real: Array, fake: Array, k: int = 3, embedding: str = "features", memory: int = MEMORY
) -> PrecisionRecall:
    """Improved precision and recall.

    Precision is the share of fake examples that lie inside the ball of some real example, whose radius is
    the distance to its k-th nearest other real example; recall is the share of real examples inside the
    ball of some fake one.

    Both are exactly those of float64, though most distances are computed in float32 (see
    `bestiary.metrics.distances`). The errors join the binomial deviation of the examples that are counted
    and a jackknife of those that the balls are around: without one of 20 random groups, and with balls that
    reach further where a neighbour was in it. (A plain jackknife counts the chance of the examples twice,
    and is up to twice too long for a share; for the density it is right.)

    References: *Improved Precision and Recall Metric for Assessing Generative Models* (Kynkäänniemi et
    al., 2019), arXiv 1904.06991.

    Arguments:
        real, fake: features (n, d) and (m, d) with n, m > k; the numbers depend on n and m.
        k: neighbours that make a ball.
        embedding: what the features are, for the protocol's name.
        memory: bytes to keep to, beside the features and a float32 copy of them.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or too few examples.
        OptionError: too little memory for a single pair.
    """
    check_count("k", k, least=1)
    x, y = comparable(*check_pair(real, fake, minimum=k + 1))
    around_real = _Balls(x, k, _others(x, k, memory), points=y)
    around_fake = _Balls(y, k, _others(y, k, memory), points=x)
    _sweep(x, y, [around_real], [around_fake], memory)
    return _precision_recall(around_real, around_fake, embedding)


def density_coverage(
    *, real: Array, fake: Array, k: int = 5, embedding: str = "features", memory: int = MEMORY
) -> DensityCoverage:
    """Density and coverage: robust to single outliers among the real examples, which make huge balls.

    With the ball of real example i reaching to its k-th nearest other real example: density is the mean
    over fake examples of the number of balls that each lies in, divided by k, 1 in expectation for equal
    laws; coverage is the share of balls with a fake example inside, for equal laws
    1 − Π_{i=1..k} (n − i)/(n + m − i) in expectation.

    Exactness and errors as in `manifold_precision_recall`.

    References: *Reliable Fidelity and Diversity Metrics for Generative Models* (Naeem et al., 2020),
    arXiv 2002.09797.

    Arguments:
        real, fake: features (n, d) and (m, d) with n > k + 1 and m > 1.
        k: neighbours that make a ball.
        embedding: what the features are, for the protocol's name.
        memory: bytes to keep to, beside the features and a float32 copy of them.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or too few examples.
        OptionError: too little memory for a single pair.
    """
    x, y = comparable(*check_pair(real, fake, minimum=k + 2, minimum_fake=2))
    balls = _CountedBalls(x, k, _others(x, k, memory), points=y)
    _sweep(x, y, [balls], [], memory)
    return _density_coverage(balls, embedding)


def precision_recall_density_coverage(
    *,
    real: Array,
    fake: Array,
    k: int = 3,
    density_k: int = 5,
    embedding: str = "features",
    memory: int = MEMORY,
) -> tuple[PrecisionRecall, DensityCoverage]:
    """`manifold_precision_recall` and `density_coverage` from the same distances, in the time of the first.

    Arguments:
        real, fake: features (n, d) and (m, d) with n > max(k, density_k + 1) and m > max(k, 1).
        k: neighbours that make a ball, of precision and recall.
        density_k: the same, of density and coverage.
        embedding: what the features are, for the protocol's name.
        memory: bytes to keep to, beside the features and a float32 copy of them.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or too few examples.
        OptionError: too little memory for a single pair.
    """
    check_count("k", k, least=1)
    check_count("density_k", density_k, least=1)
    minimum = max(k + 1, density_k + 2)
    x, y = comparable(*check_pair(real, fake, minimum=minimum, minimum_fake=max(k + 1, 2)))
    nearest = _others(x, max(k, density_k), memory)
    around_real = _Balls(x, k, nearest, points=y)
    counted = _CountedBalls(x, density_k, nearest, points=y)
    around_fake = _Balls(y, k, _others(y, k, memory), points=x)
    _sweep(x, y, [around_real, counted], [around_fake], memory)
    return _precision_recall(around_real, around_fake, embedding), _density_coverage(counted, embedding)


def _others(points: Points, k: int, memory: int) -> tuple[Tensor, Tensor]:
    """The k + 1 nearest others of each, as far as there are so many."""
    return neighbours_within(points, min(k + 1, len(points) - 1), memory=memory)


def _sweep(x: Points, y: Points, around_x: list["_Balls"], around_y: list["_Balls"], memory: int) -> None:
    size = rows_at_a_time(memory, x.d)
    for rows in slices(len(x), size):
        for columns in slices(len(y), size):
            block = Block(x, y, rows, columns)
            for balls in around_x:
                near, wide = (block.below(squares[rows]) for squares in (balls.near, balls.wide))
                balls.add(rows, columns, near.float(), wide.float())
            for balls in around_y:
                near, wide = (block.below(squares[columns].T).T for squares in (balls.near, balls.wide))
                balls.add(columns, rows, near.float(), wide.float())


class _Balls:
    """Balls around examples, and how many of them hold each point: all, and with each group left out.

    Attributes:
        n: number of balls.
        k: neighbours that make a ball.
        near, wide: (n, 1), squared radii: to the k-th and to the next nearest other example.
        counts: (1 + groups, points), float32: of all balls, then of those that are left without a group,
            where balls that had a neighbour in the group reach to the next one.
    """

    def __init__(self, x: Points, k: int, nearest: tuple[Tensor, Tensor], *, points: Points) -> None:
        squares, indices = nearest
        self.n, self.k = len(x), k
        self.near = squares[:, k - 1 : k]
        # With k + 1 examples there is no next neighbour, and without a group the ball holds everything.
        self.wide = squares[:, k : k + 1] if squares.shape[1] > k else torch.full_like(self.near, torch.inf)
        group = _groups(self.n)
        groups = min(self.n, _GROUPS)
        others = torch.arange(groups)[:, None] != group  # (groups, n)
        widened = F.one_hot(group[indices[:, :k]], groups).amax(dim=1).T.bool()  # (groups, n)
        self.near_weights = torch.cat([torch.ones(1, self.n), (others & ~widened).float()])
        self.wide_weights = torch.cat([torch.zeros(1, self.n), (others & widened).float()])
        self.counts = torch.zeros(len(self.near_weights), len(points))

    def add(self, balls: slice, points: slice, near: Tensor, wide: Tensor) -> None:
        """Take into account which of these balls hold which of these points, (balls, points)."""
        self.counts[:, points] += self.near_weights[:, balls] @ near
        self.counts[:, points] += self.wide_weights[:, balls] @ wide

    def covered(self) -> tuple[float, float]:
        """Share of the points that lie in at least one ball, and its error."""
        return _share_and_error(self.counts > 0)

    def density(self) -> tuple[float, float]:
        """Mean number of balls that a point lies in over k, and its error."""
        counts = self.counts.double() / self.k
        variance = counts[0].var() / counts.shape[1] + _jackknife(counts[1:].mean(dim=1))
        return counts[0].mean().item(), variance.sqrt().item()


class _CountedBalls(_Balls):
    """Balls that also know how many points they hold.

    Attributes:
        inside: (n, groups), float32: points of each group in each ball.
        inside_wide: (n,), float32: points in each ball that reaches to the next neighbour.
    """

    def __init__(self, x: Points, k: int, nearest: tuple[Tensor, Tensor], *, points: Points) -> None:
        super().__init__(x, k, nearest, points=points)
        self._point_groups = F.one_hot(_groups(len(points))).float()
        self.inside = torch.zeros(self.n, self._point_groups.shape[1])
        self.inside_wide = torch.zeros(self.n)

    def add(self, balls: slice, points: slice, near: Tensor, wide: Tensor) -> None:
        """See `_Balls.add`."""
        super().add(balls, points, near, wide)
        self.inside[balls] += near @ self._point_groups[points]
        self.inside_wide[balls] += wide.sum(dim=1)

    def occupied(self) -> tuple[float, float]:
        """Share of the balls that hold at least one point, and its error."""
        points = self.inside.sum(dim=1, keepdim=True)
        without_points = points > self.inside
        share, error = _share_and_error(torch.cat([points > 0, without_points], dim=1).T)
        # Balls of neighbouring examples are not independent: without a group its neighbours' balls are wider.
        near, wide = self.near_weights[1:], self.wide_weights[1:]
        without_balls = near * (points[:, 0] > 0) + wide * (self.inside_wide > 0) + (1 - near - wide) * share
        return share, math.hypot(error, _of_the_others(without_balls.double()).sqrt())


def _groups(n: int) -> Tensor:
    """To which of the groups each example belongs, at random and not by its place: data come sorted."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0)) % min(n, _GROUPS)


def _share_and_error(values: Tensor) -> tuple[float, float]:
    """The share of n examples of which something holds, and its error, from values (1 + groups, n).

    The first row is the examples, the others are the same ones without each group of the other set. Half an
    example of each kind is added for the error, so that a share of 0 or 1 does not pass for certain.
    """
    n, held = values.shape[1], values[0].sum().item()
    smoothed = (held + 0.5) / (n + 1)
    variance = smoothed * (1 - smoothed) / n + _of_the_others(values[1:].double())
    return held / n, variance.sqrt().item()


def _of_the_others(without: Tensor) -> Tensor:
    """Part of the variance of a share of n examples that comes from the other set, by the jackknife.

    From values (groups, n) without each group of the other set. The influence of a group is the mean change;
    what the n examples' own chance adds to its square, the squares of their own changes, is taken away again.
    """
    change = without - without.mean(dim=0)
    own_chance = (1 - 1 / len(without)) * change.square().sum() / without.shape[1] ** 2
    return (_jackknife(without.mean(dim=1)) - own_chance).clamp_min(0)


def _jackknife(without: Tensor) -> Tensor:
    """Variance of a value, from its values (groups,) without each group."""
    return (1 - 1 / len(without)) * (without - without.mean()).square().sum()


def _precision_recall(around_real: _Balls, around_fake: _Balls, embedding: str) -> PrecisionRecall:
    n, m, k = around_real.n, around_fake.n, around_real.k
    (precision, precision_error), (recall, recall_error) = around_real.covered(), around_fake.covered()
    name = protocol("manifold-precision-recall", embedding, n, m, f"k={k}")
    return PrecisionRecall(precision, recall, precision_error, recall_error, n, m, name)


def _density_coverage(balls: _CountedBalls, embedding: str) -> DensityCoverage:
    n, m, k = balls.n, balls.counts.shape[1], balls.k
    (density, density_error), (coverage, coverage_error) = balls.density(), balls.occupied()
    name = protocol("density-coverage", embedding, n, m, f"k={k}")
    return DensityCoverage(density, coverage, density_error, coverage_error, n, m, name)
