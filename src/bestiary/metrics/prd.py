"""Precision and recall of distributions: a curve, from the shares of both sets in common clusters."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bestiary.config import check_count
from bestiary.metrics.features import Array, check_pair, chunks, protocol
from bestiary.metrics.results import Score
from bestiary.metrics.statistics import FeatureStatistics, symmetric_eigen

# Clusters are sought among this many principal components of the union. That changes F by less than
# another clustering does, and takes a tenth of the time.
_COMPONENTS = 64
# Resampled sets for the error bar, whose own relative error is then 7 %.
_REPLICATES = 100
# A smaller part of chance in the difference of two sets is left there: sets apart are not to be mixed.
_MUCH = 0.1


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """The attainable pairs of precision α and recall β.

    Attributes:
        precision, recall: (angles,), float64: α and β = α/λ at λ = tan θ, for θ rising from 0 to π/2, so
            that precision rises and recall falls; means over the runs.
        run_precision, run_recall: (runs, angles): those of each run.
        resampled_precision, resampled_recall: (replicates, angles): those of resampled sets, means over the
            runs, for the error bar.
        n_real, n_fake: numbers of examples used; always equal.
        protocol: the metric's full name.
    """

    precision: Tensor
    recall: Tensor
    run_precision: Tensor
    run_recall: Tensor
    resampled_precision: Tensor
    resampled_recall: Tensor
    n_real: int
    n_fake: int
    protocol: str

    def f_beta(self, b: float) -> float:
        """Greatest F_b = (1 + b²) α β / (b² α + β) on the curve: b = 8 weighs recall, b = 1/8 precision."""
        return _f_beta(self.precision, self.recall, b).max().item()

    def score(self, b: float) -> Score:
        """`f_beta(b)` with one standard error, from the sample and from the clustering.

        The sample's part is the deviation of F_b over sets drawn anew from these, in the same clusters, as
        far apart as the laws are estimated to be (a first-order formula fails where the laws are nearly
        equal and α has a kink); the clustering's is the deviation of the runs' own F_b, over √runs.
        """
        sampling = _f_beta(self.resampled_precision, self.resampled_recall, b).amax(dim=1).var()
        of_runs = _f_beta(self.run_precision, self.run_recall, b).amax(dim=1)
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
    for name, count, least in (("clusters", clusters, 1), ("angles", angles, 2), ("runs", runs, 1)):
        check_count(name, count, least=least)
    x, y = check_pair(real, fake, minimum=max(2, clusters))
    generator = generator or torch.Generator().manual_seed(0)
    n = min(len(x), len(y))
    x, y = (s if len(s) == n else s[torch.randperm(len(s), generator=generator)[:n]] for s in (x, y))
    union = _principal(x, y)
    seeds = torch.randint(2**31 - 1, (runs,), generator=generator).tolist()
    in_cluster = torch.stack([F.one_hot(_cluster(union, clusters, seed), clusters) for seed in seeds], dim=1)
    real_members, fake_members = in_cluster.float().split(n)  # (n, runs, clusters)
    slopes = _slopes(angles)
    precision, recall = _curves(real_members.double().mean(dim=0), fake_members.double().mean(dim=0), slopes)
    drawn_real = _resampled(real_members, fake_members, generator)
    drawn_fake = _resampled(fake_members, real_members, generator)
    drawn = [_curves(p, q, slopes) for p, q in zip(drawn_real, drawn_fake, strict=True)]
    return PrecisionRecallCurve(
        precision=precision.mean(dim=0),
        recall=recall.mean(dim=0),
        run_precision=precision,
        run_recall=recall,
        resampled_precision=torch.stack([alpha.mean(dim=0) for alpha, _ in drawn]),
        resampled_recall=torch.stack([beta.mean(dim=0) for _, beta in drawn]),
        n_real=n,
        n_fake=n,
        protocol=protocol("prd", embedding, n, n, f"clusters={clusters}", f"runs={runs}"),
    )


def _principal(x: Tensor, y: Tensor) -> Tensor:
    """The examples of both sets, in their common principal components where they are of more dimensions."""
    if x.shape[1] <= _COMPONENTS:
        return torch.cat([x.double(), y.double()])
    _, vectors = symmetric_eigen(FeatureStatistics().update(x).update(y).scatter)
    return torch.cat([rows @ vectors[:, -_COMPONENTS:] for part in (x, y) for _, rows in chunks(part, 1024)])


def _resampled(own: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """Shares (replicates, runs, clusters) of sets drawn with replacement, from members (n, runs, clusters).

    As finite samples of two laws differ more than the laws, so many are drawn from the other set that the
    expected shares of drawn real and fake sets differ by as much as the laws are estimated to.
    """
    n = len(own)
    p, q = own.double().mean(dim=0), other.double().mean(dim=0)
    by_chance = ((p * (1 - p) + q * (1 - q)).sum() / n).clamp_min(torch.finfo(p.dtype).tiny)
    chance = (by_chance / (p - q).square().sum()).clamp(max=1)  # its part in how far the sets are apart
    drawn = torch.randint(n, (_REPLICATES, n), generator=generator)
    if chance > _MUCH:
        likeness = 1 - (1 - chance).sqrt()
        drawn += n * (torch.rand(_REPLICATES, n, generator=generator) < likeness / 2)
    times = torch.zeros(_REPLICATES, 2 * n).scatter_add_(1, drawn, torch.ones(()).expand(_REPLICATES, n))
    members = torch.cat([own, other]).flatten(start_dim=1)
    return (times @ members).view(_REPLICATES, *own.shape[1:]).double() / n


def _cluster(union: Tensor, clusters: int, seed: int) -> Tensor:
    """The cluster of each row, (2n,)."""
    # Imported only here because scikit-learn takes a second to import.
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(torch.get_num_threads()):
        kmeans = MiniBatchKMeans(clusters, n_init=10, random_state=seed).fit(union.numpy())
    return torch.from_numpy(kmeans.labels_).long()


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
