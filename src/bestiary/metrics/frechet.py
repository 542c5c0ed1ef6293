"""Fréchet distance of two Gaussians fitted to features: the formula of the FID."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.errors import DataError
from bestiary.metrics.features import Array, check_features, protocol
from bestiary.metrics.results import Score
from bestiary.metrics.statistics import FeatureStatistics, gram

# Rows on which the error bar is estimated; its own relative error is then about 4 %.
_ERROR_ROWS = 1024


def frechet_distance(
    *, real: Array | FeatureStatistics, fake: Array | FeatureStatistics, embedding: str = "features"
) -> Score:
    """Squared Fréchet (Wasserstein-2) distance of the Gaussians with the moments of two sets of features.

        ‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½)

    With any factors Σ₁ = AᵀA and Σ₂ = BᵀB, Tr (Σ₁Σ₂)^½ is the sum of the singular values of ABᵀ. A factor
    is the Cholesky factor, or the centred features themselves where there are no more of them than d:
    nothing is regularised, and singular covariances are exact.

    Finite samples bias it upwards: compare at equal n only, and beside real against real.

    The error bar is the infinitesimal jackknife (*The Jackknife, the Bootstrap and Other Resampling
    Plans*, Efron, 1982): √(Var ψ₁(x)/n₁ + Var ψ₂(y)/n₂) with the influence of one example x on the value,

        ψ₁(x) = 2 (μ₁ − μ₂)ᵀ(x − μ₁) + (x − μ₁)ᵀ(I − T)(x − μ₁),   T = Bᵀ(B Σ₁ Bᵀ)^(−½) B.

    It agrees with a delete-block jackknife at a small part of its cost; where both laws are equal the
    distance is all bias, and the bar up to twice too long.

    References: *GANs Trained by a Two Time-Scale Update Rule* (Heusel et al., 2017), arXiv 1706.08500.

    Arguments:
        real, fake: features (n, d) with n ≥ 2, or statistics collected batch by batch.
        embedding: what the features are, for the protocol's name.

    Returns:
        The distance; `error` is None where statistics were given.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or fewer than two examples.
    """
    first, second = _moments("real", real), _moments("fake", fake)
    if first.mean.shape != second.mean.shape:
        found, wanted = len(second.mean), len(first.mean)
        raise DataError(f"fake: found {found} features an example, wanted {wanted} as in real")
    name = protocol("frechet", embedding, first.n, second.n)
    n_real, n_fake = first.n, second.n
    if len(first.factor) > len(second.factor):  # the distance is symmetric: the smaller factor is cheaper
        first, second = second, first
    cross = first.factor @ second.factor.T
    singular, left = _left_singular(cross)
    shift = first.mean - second.mean
    value = shift @ shift + first.trace + second.trace - 2 * singular.sum()
    if first.rows is None or second.rows is None:
        return Score(value.item(), None, n_real, n_fake, name)

    # ABᵀ = U S Vᵀ. The quadratic form of T on examples of the second law is ‖S^(−½) UᵀA z‖²; on those of
    # the first it is ‖S^(−½) VᵀB z‖² with VᵀB = S⁻¹ Uᵀ(ABᵀ)B. Directions without variance have no influence.
    keep = singular > 1e-6 * singular.max() if len(singular) else singular.bool()
    singular, left = singular[keep], left[:, keep]
    centred_first, centred_second = first.rows - first.mean, second.rows - second.mean
    on_first = centred_first @ second.factor.T @ cross.T @ left / singular.pow(1.5)
    on_second = centred_second @ first.factor.T @ left / singular.sqrt()
    variance = _influence(centred_first, shift, on_first).var() / first.n
    variance += _influence(centred_second, -shift, on_second).var() / second.n
    return Score(value.item(), variance.sqrt().item(), n_real, n_fake, name)


@dataclass(frozen=True)
class _Moments:
    n: int
    mean: Tensor  # (d,)
    trace: Tensor  # Tr Σ
    factor: Tensor  # (r, d), Σ = factorᵀ factor
    rows: Tensor | None  # some of the examples, (≤ _ERROR_ROWS, d), for the error bar


def _moments(name: str, features: Array | FeatureStatistics) -> _Moments:
    if isinstance(features, FeatureStatistics):
        covariance = features.covariance
        return _Moments(features.n, features.mean, covariance.trace(), _factor(covariance), None)
    x = check_features(name, features)
    n, d = x.shape
    rows = x[:: -(-n // _ERROR_ROWS)].double()
    if n > d:
        statistics = FeatureStatistics().update(x)
        covariance = statistics.covariance
        return _Moments(n, statistics.mean, covariance.trace(), _factor(covariance), rows)
    mean = x.double().mean(dim=0)
    factor = (x.double() - mean) / math.sqrt(n - 1)
    return _Moments(n, mean, factor.square().sum(), factor, rows)


def _factor(covariance: Tensor) -> Tensor:
    """A with Σ = AᵀA: upper triangular, or of as many rows as the rank where Σ is singular."""
    rounding = len(covariance) * torch.finfo(covariance.dtype).eps
    upper: Tensor
    upper, info = torch.linalg.cholesky_ex(covariance, upper=True)
    if not info and upper.diagonal().min() ** 2 > rounding * covariance.diagonal().max():
        return upper
    values, vectors = torch.linalg.eigh(covariance)
    keep = values > rounding * values[-1].clamp_min(0)
    root: Tensor = vectors[:, keep] * values[keep].sqrt()
    return root.T


def _left_singular(matrix: Tensor, floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """Singular values (k,) and left singular vectors (r, k) of a matrix (r, m), r ≤ m.

    Through the eigenvalues of the smaller product, in a third of the time of an SVD. Squaring would lose
    the values below √ε of the greatest, so what is left after the great ones is decomposed by itself.
    """
    if not matrix.numel() or matrix.norm() <= floor:
        return matrix.new_empty(0), matrix.new_empty(len(matrix), 0)
    squares, vectors = torch.linalg.eigh(gram(matrix.T))
    great = squares > 1e-8 * squares[-1]
    singular, left, rest = squares[great].sqrt(), vectors[:, great], vectors[:, ~great]
    if not rest.shape[1] or not great.any():
        return singular, left
    smaller, inner = _left_singular(rest.T @ matrix, floor or 1e-13 * singular[-1].item())
    return torch.cat([smaller, singular]), torch.cat([rest @ inner, left], dim=1)


def _influence(z: Tensor, shift: Tensor, projected: Tensor) -> Tensor:
    """ψ of centred examples z (n, d), whose quadratic form zᵀT z is ‖projected‖²."""
    return 2 * z @ shift + z.square().sum(dim=1) - projected.square().sum(dim=1)
