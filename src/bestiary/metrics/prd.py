"""Precision and recall of distributions: a curve, from the shares of both sets in common clusters."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.metrics.features import Array, check_pair, protocol
from bestiary.metrics.results import Score
from bestiary.metrics.statistics import FeatureStatistics

# Clusters are sought among this many principal components of the union. That changes F by less than
# another clustering does, and takes a tenth of the time.
_COMPONENTS = 64


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """The attainable pairs of precision α and recall β.

    Attributes:
        precision, recall: (angles,), float64: α and β = α/λ at λ = tan θ, for θ rising from 0 to π/2, so
            that precision rises and recall falls; means over the runs.
        real_shares, fake_shares: (runs, clusters), float64: share of each set in each cluster.
        n_real, n_fake: numbers of examples used; always equal.
        protocol: the metric's full name.
    """

    precision: Tensor
    recall: Tensor
    real_shares: Tensor
    fake_shares: Tensor
    n_real: int
    n_fake: int
    protocol: str

    def f_beta(self, b: float) -> float:
        """Greatest F_b = (1 + b²) α β / (b² α + β) on the curve: b = 8 weighs recall, b = 1/8 precision."""
        return _f_beta(self.precision, self.recall, b).max().item()

    def score(self, b: float) -> Score:
        """`f_beta(b)` with one standard error, from the sample and from the clustering.

        The sample's part is the first-order change of F_b with the clusters' shares, which are multinomial;
        the clustering's is the deviation of the runs' own F_b, over √runs.
        """
        slopes = _slopes(len(self.precision))
        best = int(_f_beta(self.precision, self.recall, b).argmax())
        slope, alpha, beta = slopes[best], self.precision[best], self.recall[best]
        # At the maximum dF = (∂F/∂α + ∂F/∂β / λ) dα, where α = Σ_ω min(λ P_ω, Q_ω): P of real, Q of fake.
        gradient = (1 + b**2) * (beta**2 + b**2 * alpha**2 / slope) / (b**2 * alpha + beta) ** 2
        real = (self.real_shares * (slope * self.real_shares < self.fake_shares)).sum(dim=1)
        fake = (self.fake_shares * (slope * self.real_shares > self.fake_shares)).sum(dim=1)
        variance = slope**2 * real * (1 - real) / self.n_real + fake * (1 - fake) / self.n_fake
        sampling = (gradient.nan_to_num(0.0) ** 2 * variance).mean()
        of_runs = _f_beta(*_curves(self.real_shares, self.fake_shares, slopes), b).amax(dim=1)
        clustering = of_runs.var(correction=min(1, len(of_runs) - 1)) / len(of_runs)
        error = (sampling + clustering).sqrt().item()
        name = self.protocol.replace("prd[", f"prd F{b:g}[", 1)
        return Score(self.f_beta(b), error, self.n_real, self.n_fake, name)


def precision_recall_curve(
    *,
    real: Array,
    fake: Array,
    clusters: int = 20,
    angles: int = 1001,
    runs: int = 10,
    generator: torch.Generator | None = None,
    embedding: str = "features",
) -> PrecisionRecallCurve:
    """Precision and recall of distributions (PRD).

        α(λ) = Σ_ω min(λ P(ω), Q(ω)),   β(λ) = α(λ) / λ

    with P and Q the shares of real and fake examples in clusters ω of their union, found anew by k-means
    in each run; the curves of all runs are averaged.

    References: *Assessing Generative Models via Precision and Recall* (Sajjadi et al., 2018), arXiv
    1806.00035. Departure: where d > 64, clusters are sought among the 64 leading principal components of
    the union.

    Arguments:
        real, fake: features (n, d) and (m, d); of the larger set a random part is used, as many as of the
            smaller, because clusters of unequal sets are not comparable.
        clusters: number of clusters ω.
        angles: number of points on the curve.
        runs: number of clusterings.
        generator: of the parts and of the clusterings; None for one of seed 0.
        embedding: what the features are, for the protocol's name.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or fewer examples than clusters.
    """
    x, y = check_pair(real, fake, minimum=max(2, clusters))
    generator = generator or torch.Generator().manual_seed(0)
    n = min(len(x), len(y))
    x, y = (s if len(s) == n else s[torch.randperm(len(s), generator=generator)[:n]] for s in (x, y))
    union = _principal(torch.cat([x.double(), y.double()]))
    seeds = torch.randint(2**31 - 1, (runs,), generator=generator).tolist()
    counts = torch.stack([_cluster(union, n, clusters, seed) for seed in seeds])  # (runs, 2, clusters)
    real_shares, fake_shares = counts.double().div(n).unbind(dim=1)
    precision, recall = _curves(real_shares, fake_shares, _slopes(angles))
    name = protocol("prd", embedding, n, n, f"clusters={clusters}", f"runs={runs}")
    return PrecisionRecallCurve(
        precision.mean(dim=0), recall.mean(dim=0), real_shares, fake_shares, n, n, name
    )


def _principal(union: Tensor) -> Tensor:
    if union.shape[1] <= _COMPONENTS:
        return union
    vectors: Tensor = torch.linalg.eigh(FeatureStatistics().update(union).scatter).eigenvectors
    return union @ vectors[:, -_COMPONENTS:]


def _cluster(union: Tensor, n: int, clusters: int, seed: int) -> Tensor:
    """How many of the first n rows and of the others fall into each cluster, (2, clusters)."""
    # Imported only here because scikit-learn takes a second to import.
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(torch.get_num_threads()):
        kmeans = MiniBatchKMeans(clusters, n_init=10, random_state=seed).fit(union.numpy())
    labels = torch.from_numpy(kmeans.labels_).long()
    return torch.stack([torch.bincount(part, minlength=clusters) for part in (labels[:n], labels[n:])])


def _slopes(angles: int) -> Tensor:
    margin = 1e-10  # from 0 and from π/2, as published
    return torch.linspace(margin, torch.pi / 2 - margin, angles, dtype=torch.float64).tan()


def _curves(real_shares: Tensor, fake_shares: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Precision and recall of each run, (runs, angles), from shares (runs, clusters)."""
    alpha = torch.minimum(slopes[:, None] * real_shares[:, None], fake_shares[:, None]).sum(dim=2)
    return alpha.clamp(max=1), (alpha / slopes).clamp(max=1)


def _f_beta(alpha: Tensor, beta: Tensor, b: float) -> Tensor:
    f = (1 + b**2) * alpha * beta / (b**2 * alpha + beta)
    return f.nan_to_num(0.0)
