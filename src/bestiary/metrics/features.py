"""Features as metrics take them: checked once, and then read in chunks of float64."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bestiary.errors import DataError

_LARGEST = 1e100

Array = Tensor | np.ndarray[Any, Any]


def check_features(name: str, features: Array, *, minimum: int = 2) -> Tensor:
    """The features as a tensor (n, d) on the CPU, in their own number type.

    Raises:
        DataError: another shape, fewer than `minimum` rows, or values that are not finite.
    """
    try:
        x = torch.as_tensor(features).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        found = type(features).__name__ if features is None else f"{features!r:.60}"
        raise DataError(f"{name}: found {found}, wanted an array of numbers (n, d)") from None
    if x.ndim != 2 or x.shape[1] == 0:
        raise DataError(f"{name}: found shape {tuple(x.shape)}, wanted (n, d): embed the images first")
    if len(x) < minimum:
        raise DataError(f"{name}: found {len(x)} examples, wanted at least {minimum}")
    if x.is_complex():
        raise DataError(f"{name}: found {x.dtype}, wanted real numbers")
    ends = [float(end) for chunk in torch.split(x, 4096) for end in chunk.aminmax()]
    if not all(map(math.isfinite, ends)):
        raise DataError(f"{name}: found NaN or infinite features, wanted finite numbers")
    if any(abs(end) > _LARGEST for end in ends):
        raise DataError(f"{name}: found features above {_LARGEST:g}, wanted ones whose squares can be added")
    return x


def check_pair(
    real: Array, fake: Array, *, minimum: int = 2, minimum_fake: int | None = None
) -> tuple[Tensor, Tensor]:
    """Both sets of features, checked, with the same d; `minimum_fake` where fewer fake ones will do.

    Raises:
        DataError: as `check_features`, or different d.
    """
    x = check_features("real", real, minimum=minimum)
    y = check_features("fake", fake, minimum=minimum_fake or minimum)
    check_same_width(x, y)
    return x, y


def check_same_width(real: Tensor, fake: Tensor) -> None:
    """Refuse features, or their means, of different d.

    Raises:
        DataError: different sizes of the last dimension.
    """
    if real.shape[-1] != fake.shape[-1]:
        found, wanted = fake.shape[-1], real.shape[-1]
        raise DataError(f"fake: found {found} features an example, wanted {wanted} as in real")


def check_probabilities(probabilities: Array, *, minimum: int = 1) -> Tensor:
    """Class probabilities (n, K) as float64.

    Raises:
        DataError: as `check_features`, or rows that are no probabilities.
    """
    p = check_features("probabilities", probabilities, minimum=minimum).double()
    if p.min() < 0 or (p.sum(dim=1) - 1).abs().max() > 1e-3:
        raise DataError("probabilities: found rows that do not sum to 1 or are negative: apply a softmax")
    return p


def chunks(features: Tensor, size: int) -> Iterator[tuple[slice, Tensor]]:
    """Rows `size` at a time in float64, each with the slice that it came from."""
    for start in range(0, len(features), size):
        rows = slice(start, min(start + size, len(features)))
        yield rows, features[rows].double()


def protocol(metric: str, embedding: str, n_real: int, n_fake: int, *settings: str) -> str:
    """A metric's full name: "frechet[efficientnet-lite0 96px bilinear, n=2000]"."""
    same = not n_real or n_real == n_fake
    size = f"n={n_fake}" if same else f"n_real={n_real}, n_fake={n_fake}"
    return f"{metric}[{', '.join([embedding, *settings, size])}]"
