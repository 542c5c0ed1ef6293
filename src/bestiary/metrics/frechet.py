"""Fréchet distance of two Gaussians fitted to features: the formula of the FID."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.errors import OptionError
from bestiary.metrics.features import Array, check_features, check_pair, check_same_width, protocol
from bestiary.metrics.results import Score
from bestiary.metrics.statistics import FeatureStatistics, gram, symmetric_eigen

# Rows on which the error bar is estimated; its own relative error is then about 6 %.
_ERROR_ROWS = 512


def frechet_distance(
    *,
    real: Array | FeatureStatistics,
    fake: Array | FeatureStatistics,
    extrapolate: bool = False,
    generator: torch.Generator | None = None,
    embedding: str = "features",
) -> Score:
    """Squared Fréchet (Wasserstein-2) distance of the Gaussians with the moments of two sets of features.

        ‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½)

    With any factors Σ₁ = AᵀA and Σ₂ = BᵀB, Tr (Σ₁Σ₂)^½ is the sum of the singular values of ABᵀ. A factor
    is the Cholesky factor, or the centred features themselves where there are no more of them than d:
    nothing is regularised, and singular covariances are exact.

    Finite samples bias it upwards: compare at equal n only, and beside real against real. Where n is many
    times d the bias falls as 1/n, and `extrapolate` takes it away: twice the distance less the mean distance
    of two random halves, which is the line through both, read at 1/n = 0. It may then be negative.

    The error bar is the infinitesimal jackknife (*The Jackknife, the Bootstrap and Other Resampling
    Plans*, Efron, 1982): √(Var ψ₁(x)/n₁ + Var ψ₂(y)/n₂) with the influence of one example x on the value,

        ψ₁(x) = 2 (μ₁ − μ₂)ᵀ(x − μ₁) + (x − μ₁)ᵀ(I − T)(x − μ₁),   T = Bᵀ(B Σ₁ Bᵀ)^(−½) B.

    It agrees with a delete-block jackknife at a small part of its cost, and halves have the same influence.
    Where the laws are so alike that the distance is all bias, the bar is up to √2 times too long (not for
    the extrapolated distance, whose deviation is as much greater).

    References: *GANs Trained by a Two Time-Scale Update Rule* (Heusel et al., 2017), arXiv 1706.08500;
    *Effectively Unbiased FID and Inception Score and Where to Find Them* (Chong & Forsyth, 2020), arXiv
    1911.07023. Departure: they draw fifteen subsets of one set; halves of both have no noise of the draw to
    first order, and remove the bias of both.

    Arguments:
        real, fake: features (n, d) with n ≥ 2, or statistics collected batch by batch.
        extrapolate: to infinite samples; needs features, at least 4 of each.
        generator: draws the halves; None for one of seed 0.
        embedding: what the features are, for the protocol's name.

    Returns:
        The distance; `error` is None where statistics were given.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or too few examples.
        OptionError: statistics that are to be extrapolated.
    """
    if not extrapolate:
        first, second = _moments("real", real), _moments("fake", fake)
        check_same_width(first.mean, second.mean)
        value, error = _distance(first, second)
        return Score(value, error, first.n, second.n, protocol("frechet", embedding, first.n, second.n))
    if isinstance(real, FeatureStatistics) or isinstance(fake, FeatureStatistics):
        raise OptionError("extrapolate: found statistics, wanted features, which can be halved")
    x, y = check_pair(real, fake, minimum=4)
    generator = generator or torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(features), generator=generator) for features in (x, y)]
    halves = zip(*(order.chunk(2) for order in orders), strict=True)
    smaller = [_distance(_moments("real", x[i]), _moments("fake", y[j]), bar=False)[0] for i, j in halves]
    value, error = _distance(_moments("real", x), _moments("fake", y))
    name = protocol("frechet-extrapolated", embedding, len(x), len(y))
    return Score(2 * value - sum(smaller) / 2, error, len(x), len(y), name)


@dataclass(frozen=True)
class _Moments:
    n: int
    mean: Tensor  # (d,)
    trace: Tensor  # Tr Σ
    factor: Tensor  # (r, d), Σ = factorᵀ factor
    rows: Tensor | None  # some of the examples less the mean, (≤ _ERROR_ROWS, d), for the error bar


def _moments(name: str, features: Array | FeatureStatistics) -> _Moments:
    if isinstance(features, FeatureStatistics):
        covariance = features.covariance
        return _Moments(features.n, features.mean, covariance.trace(), _factor(covariance), None)
    x = check_features(name, features)
    n, d = x.shape
    # at random, since samples may come in the order of their classes
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:_ERROR_ROWS]
    rows = x[chosen].double()
    if n > d:
        statistics = FeatureStatistics().update(x)
        mean, covariance = statistics.mean, statistics.covariance
        return _Moments(n, mean, covariance.trace(), _factor(covariance), rows - mean)
    mean = x.double().mean(dim=0)
    factor = (x.double() - mean) / math.sqrt(n - 1)
    return _Moments(n, mean, factor.square().sum(), factor, rows - mean)


def _distance(first: _Moments, second: _Moments, *, bar: bool = True) -> tuple[float, float | None]:
    """Value and error bar, which is None without examples or where it is not wanted."""
    if len(first.factor) > len(second.factor):  # the distance is symmetric: the smaller factor is cheaper
        first, second = second, first
    cross = first.factor @ second.factor.T
    singular, left = _left_singular(cross)
    shift = first.mean - second.mean
    value = (shift @ shift + first.trace + second.trace - 2 * singular.sum()).item()
    if not bar or first.rows is None or second.rows is None:
        return value, None

    # ABᵀ = U S Vᵀ. The quadratic form of T on examples of the second law is ‖S^(−½) UᵀA z‖²; on those of
    # the first it is ‖S^(−½) VᵀB z‖² with VᵀB = S⁻¹ Uᵀ(ABᵀ)B. Directions without variance have no influence.
    zero = int((singular <= 1e-6 * singular.max()).sum()) if len(singular) else 0  # they come first
    singular, left = singular[zero:], left[:, zero:]
    on_first = first.rows @ second.factor.T @ cross.T @ left / singular.pow(1.5)
    on_second = second.rows @ first.factor.T @ left / singular.sqrt()
    variance = _influence(first.rows, shift, on_first).var() / first.n
    variance += _influence(second.rows, -shift, on_second).var() / second.n
    return value, variance.sqrt().item()


def _factor(covariance: Tensor) -> Tensor:
    """A with Σ = AᵀA: upper triangular, or of as many rows as the rank where Σ is singular."""
    rounding = len(covariance) * torch.finfo(covariance.dtype).eps
    upper: Tensor
    upper, info = torch.linalg.cholesky_ex(covariance, upper=True)
    if not info and upper.diagonal().min() ** 2 > rounding * covariance.diagonal().max():
        return upper
    values, vectors = symmetric_eigen(covariance)
    keep = values > rounding * values[-1].clamp_min(0)
    root: Tensor = vectors[:, keep] * values[keep].sqrt()
    return root.T


def _left_singular(matrix: Tensor, floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """Singular values (k,), ascending, and left singular vectors (r, k) of a matrix (r, m), r ≤ m.

    Through the eigenvalues of the smaller product, in a third of the time of an SVD. Squaring would lose
    the values below √ε of the greatest, so what is left after the great ones is decomposed by itself.
    """
    if not matrix.numel() or matrix.norm() <= floor:
        return matrix.new_empty(0), matrix.new_empty(len(matrix), 0)
    squares, vectors = symmetric_eigen(gram(matrix.T))
    small = int((squares <= 1e-8 * squares[-1]).sum())
    singular, left, rest = squares[small:].sqrt(), vectors[:, small:], vectors[:, :small]
    if not small or small == len(squares):
        return singular, left
    smaller, inner = _left_singular(rest.T @ matrix, floor or 1e-13 * singular[-1].item())
    return torch.cat([smaller, singular]), torch.cat([rest @ inner, left], dim=1)


def _influence(z: Tensor, shift: Tensor, projected: Tensor) -> Tensor:
    """ψ of centred examples z (n, d), whose quadratic form zᵀT z is ‖projected‖²."""
    return 2 * z @ shift + z.square().sum(dim=1) - projected.square().sum(dim=1)
