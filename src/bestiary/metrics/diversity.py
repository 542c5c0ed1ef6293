"""How diverse samples are beside data: what share of the data they miss, and how much they vary."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bestiary.errors import DataError, OptionError
from bestiary.metrics.features import Array, check_features, check_pair, check_same_width, protocol
from bestiary.metrics.neighbours import nearest_neighbours
from bestiary.metrics.results import Score

# A cell that samples fall into less than this times as often as data do is missed.
_HARDLY = 0.2
# Cells nearer to each other than this times the usual distance of data are one mode that was cut in pieces.
_ONE_MODE = 0.25
_REPLICATES = 200


@dataclass(frozen=True)
class MissedMass(Score):
    """Share of the data's mass that lies in cells which samples hardly ever fall into (`value`).

    The error is that of 200 bootstrap replicates of both histograms; the cells stay as they are.

    Attributes:
        real: share of the real examples in each cell, summing to 1.
        fake: share of the samples in each cell.
    """

    real: tuple[float, ...]
    fake: tuple[float, ...]

    @property
    def missed(self) -> int:
        """Number of cells that samples hardly ever fall into."""
        return int(_hardly_visited(torch.tensor(self.real), torch.tensor(self.fake)).sum())


class DataCells:
    """Cells that divide the space among real examples, in which samples are counted.

    The cells are those of k-means; cells that lie within a quarter of the data's root-mean-square distance
    of each other (by complete linkage of their centres) are joined, or tight modes would be cut into cells
    that differ by less than anyone cares for. With p and q the shares of data and of samples in a cell,

        missed mass = Σ p over the cells where q < p/5.

    A missed cell says that nothing of its kind is drawn; whether samples are good it does not say, since
    every sample falls into the cell whose centre is nearest.

    References: *On GANs and GMMs* (Richardson & Weiss, 2018), arXiv 1805.12462, §3: the cells ("bins") of
    their number of statistically different bins. Departures: mass is summed up where bins are counted there,
    by a ratio in place of a test, because a test finds small differences too when samples are many.

    Arguments:
        real: examples (n, d) with n ≥ 2.
        cells: number of cells, before any are joined; fewer where there are fewer examples.
        embedding: what the examples are, for the protocol's name.
        seed: of k-means and of the error bars.

    Raises:
        DataError: wrong shape, too few examples, or values that are not finite.
        OptionError: fewer than two cells.
    """

    def __init__(self, real: Array, *, cells: int = 25, embedding: str = "pixels", seed: int = 0) -> None:
        if cells < 2:
            raise OptionError(f"cells: found {cells}, wanted at least 2")
        x = check_features("real", real)
        distance = math.sqrt(2 * x.double().var(dim=0).sum().item())
        self._embedding, self._seed, self._n = embedding, seed, len(x)
        self._centres = _centres(x, min(cells, len(x)), seed)
        self._cell_of = _joined(self._centres, _ONE_MODE * distance)
        self._shares = self._histogram(x)

    def missed(self, fake: Array) -> MissedMass:
        """The missed mass of samples (m, d).

        Raises:
            DataError: wrong shape, another d, fewer than two samples, or values that are not finite.
        """
        x = check_features("fake", fake)
        check_same_width(self._centres, x)
        p, q = self._shares, self._histogram(x)
        draw = np.random.default_rng(self._seed)
        replicates = [
            torch.from_numpy(draw.multinomial(n, shares.numpy(), _REPLICATES) / n)
            for n, shares in ((self._n, p), (len(x), q))
        ]
        return MissedMass(
            value=_missed_mass(p, q).item(),
            error=_missed_mass(*replicates).std().item(),
            n_real=self._n,
            n_fake=len(x),
            protocol=protocol("missed-mass", self._embedding, self._n, len(x), f"{len(p)} cells"),
            real=tuple(p.tolist()),
            fake=tuple(q.tolist()),
        )

    def _histogram(self, x: Tensor) -> Tensor:
        _, nearest = nearest_neighbours(queries=x, references=self._centres)
        cells = self._cell_of[nearest[:, 0]]
        return torch.bincount(cells, minlength=int(self._cell_of.max()) + 1).double() / len(x)


def relative_spread(
    *, real: Array, fake: Array, groups: Tensor | None = None, embedding: str = "pixels"
) -> Score:
    """How far apart samples lie, over how far apart real examples do: 1 for a perfect model, 0 for one point.

        √(tr Σ_fake / tr Σ_real), the ratio of root-mean-square distances between two samples and between two
        examples, within groups where there are any (with Σ the pooled covariance within them).

    Its error is that of the two traces by the delta method. Where real examples of a group are all alike, the
    value is NaN.

    Arguments:
        real: examples (n, d).
        fake: samples (m, d).
        groups: of conditional samples, what each was drawn for, (n,), int64: that of the real example at the
            same place, so that m = n.
        embedding: what the examples are, for the protocol's name.

    Raises:
        DataError: wrong shapes, different d, fewer than two examples, or values that are not finite.
    """
    x, y = check_pair(real, fake)
    if groups is not None and not len(x) == len(y) == len(groups):
        raise DataError(
            f"groups: found {len(groups)} for {len(x)} and {len(y)} examples, wanted one for each"
        )
    of_real, error_real = _variance(x, groups)
    of_fake, error_fake = _variance(y, groups)
    settings = () if groups is None else (f"within {len(groups.unique())} groups",)
    name = protocol("relative-spread", embedding, len(x), len(y), *settings)
    if of_real == 0:
        return Score(math.nan, None, len(x), len(y), name)
    ratio = of_fake / of_real
    error_squared = (error_fake**2 + (ratio * error_real) ** 2) / of_real**2  # of the ratio
    error = math.sqrt(error_squared / ratio) / 2 if ratio > 0 else 0.0
    return Score(math.sqrt(ratio), error, len(x), len(y), name)


def _variance(x: Tensor, groups: Tensor | None) -> tuple[float, float]:
    """tr Σ within groups, and its standard error."""
    of = torch.zeros(len(x), dtype=torch.int64) if groups is None else groups.unique(return_inverse=True)[1]
    counts = torch.bincount(of).double()
    means = torch.zeros(len(counts), x.shape[1], dtype=torch.float64).index_add_(0, of, x.double())
    squares = (x - (means / counts[:, None])[of]).square().sum(dim=1)
    freedom = len(x) - len(counts)
    if freedom == 0:
        return 0.0, 0.0
    return squares.sum().item() / freedom, squares.std().item() * math.sqrt(len(x)) / freedom


def _hardly_visited(p: Tensor, q: Tensor) -> Tensor:
    return q < _HARDLY * p


def _missed_mass(p: Tensor, q: Tensor) -> Tensor:
    """Σ p over the missed cells of histograms (…, K), shape (…)."""
    return torch.where(_hardly_visited(p, q), p, 0.0).sum(dim=-1)


def _centres(x: Tensor, cells: int, seed: int) -> Tensor:
    """Centres of k-means, (cells, d), float32."""
    # Imported only here because scikit-learn takes a second to import.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(torch.get_num_threads()), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct examples than cells
        means = KMeans(cells, n_init=1, random_state=seed).fit(x.float().numpy())
    return torch.from_numpy(means.cluster_centers_)


def _joined(centres: Tensor, distance: float) -> Tensor:
    """The cell that each centre belongs to when those within a distance are one, (cells,), int64."""
    from scipy.cluster.hierarchy import fcluster, linkage

    joined = fcluster(linkage(centres.double().numpy(), "complete"), distance, "distance")
    return torch.from_numpy(joined).long() - 1
