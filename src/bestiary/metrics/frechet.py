"""Fréchet distance of two Gaussians fitted to features: the formula of the FID."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.errors import DataError
from bestiary.metrics.features import Array, check_features, protocol
from bestiary.metrics.results import Score
from bestiary.metrics.statistics import FeatureStatistics, gram

# Rows that the error bar is estimated on: its own relative error is then about 3 %.
_ERROR_ROWS = 2048


def frechet_distance(
    *, real: Array | FeatureStatistics, fake: Array | FeatureStatistics, embedding: str = "features"
) -> Score:
    """Squared Fréchet (Wasserstein-2) distance of the Gaussians with the moments of two sets of features.

        ‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½)

    With any factors Σ₁ = AᵀA and Σ₂ = BᵀB, Tr (Σ₁Σ₂)^½ is the sum of the singular values of BAᵀ. A factor is
    the Cholesky factor, or the centred features themselves where there are fewer of them than d: nothing is
    regularised, and singular covariances are exact.

    The distance is biased upwards by finite samples: compare only at equal n, beside real against real.

    The error bar is the infinitesimal jackknife (*The Jackknife, the Bootstrap and Other Resampling Plans*,
    Efron, 1982): √(Var ψ(x)/n₁ + Var ψ(y)/n₂), where ψ is the influence of one example,

        ψ(x) = 2 (μ₁ − μ₂)ᵀ(x − μ₁) + (x − μ₁)ᵀ(I − T)(x − μ₁),  T = Bᵀ(B Σ₁ Bᵀ)^(−½) B.

    It is near the truth when the laws differ and up to twice too large when they are equal.

    References: *GANs Trained by a Two Time-Scale Update Rule* (Heusel et al., 2017), arXiv 1706.08500.

    Arguments:
        real, fake: features (n, d) with n ≥ 2, or statistics collected batch by batch.
        embedding: what the features are, for the protocol's name.

    Returns:
        The distance, ≥ 0 but for rounding; `error` is None when statistics were given.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or fewer than two examples.
    """
    x, y = _Moments.of("real", real), _Moments.of("fake", fake)
    if x.mean.shape != y.mean.shape:
        raise DataError(f"fake: found {len(y.mean)} features an example, wanted {len(x.mean)} as in real")
    a, b = x.factor(), y.factor()
    if len(a) < len(b):
        left, singular = _left_singular(a @ b.T)
        ...
