"""How near reconstructions are to their originals: PSNR, SSIM and LPIPS of image pairs."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bestiary.errors import DataError
from bestiary.metrics.embeddings.base import check_images
from bestiary.metrics.embeddings.blocks import in_colour
from bestiary.metrics.embeddings.lpips import LpipsNetwork, lpips_network
from bestiary.metrics.features import Array
from bestiary.metrics.results import Score

_CHUNK = 100
# Constants of the SSIM paper, section III-C: an 11×11 Gaussian window of deviation 1.5.
_DEVIATION = 1.5
_RADIUS = 5
_C1, _C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class PairedScore(Score):
    """Mean over image pairs; `error` is its standard error, None for one pair or an infinite value.

    Attributes:
        values: of each pair, float64, shape (n,).
    """

    values: Tensor


def psnr(*, real: Array, fake: Array) -> PairedScore:
    """Peak signal-to-noise ratio in decibels: 10 log₁₀(1 / mean (x − y)²) of each pair, averaged.

    Higher is nearer; equal images have infinite PSNR, and so has the mean. The mean of decibels is not the
    decibels of the mean error.

    Arguments:
        real, fake: images in [0, 1], shape (n, C, H, W), C = 1 or 3; fake[i] is compared with real[i].

    Raises:
        DataError: other shapes, types or ranges, or no pair.
    """
    return _score("psnr", real, fake, lambda x, y: -10 * (x - y).square().flatten(1).mean(dim=1).log10())


def ssim(*, real: Array, fake: Array) -> PairedScore:
    """Structural similarity, at most 1: the mean over positions, colours and pairs of

        (2 μ_x μ_y + C₁)(2 σ_xy + C₂) / ((μ_x² + μ_y² + C₁)(σ_x² + σ_y² + C₂))

    with moments under an 11×11 Gaussian window of deviation 1.5 that lies wholly in the image, C₁ = 0.01²
    and C₂ = 0.03². Higher is nearer; symmetric.

    References: *Image Quality Assessment: From Error Visibility to Structural Similarity* (Wang et al.,
    2004).

    Arguments:
        real, fake: images in [0, 1], shape (n, C, H, W), C = 1 or 3; fake[i] is compared with real[i].

    Raises:
        DataError: other shapes, types or ranges, no pair, or images smaller than 11×11.
    """
    return _score("ssim", real, fake, _ssim, smallest=2 * _RADIUS + 1)


def lpips(*, real: Array, fake: Array, network: LpipsNetwork = "alex") -> PairedScore:
    """LPIPS, version 0.1: how different two images look, 0 for equal ones; see `embeddings.lpips.Lpips`.

    Nothing is resized, as in the reference; grey is copied to the three colours. The network computes in
    float32.

    References: *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric* (Zhang et al.,
    2018), arXiv 1801.03924.

    Arguments:
        real, fake: images in [0, 1], shape (n, C, H, W), C = 1 or 3; fake[i] is compared with real[i].
        network: "alex" for images of at least 31×31, or "vgg" of at least 16×16. The two do not compare.

    Raises:
        OptionError: another network.
        DataError: other shapes, types or ranges, no pair, images that are too small for the network, or
            weights that are not installed.
    """
    distance = lpips_network(network)

    def distances(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = distance(in_colour(x.float()), in_colour(y.float()))
        return found.double()

    return _score(f"lpips {network}", real, fake, distances, smallest=distance.trunk.smallest)


def _score(
    metric: str,
    real: Array,
    fake: Array,
    measure: Callable[[Tensor, Tensor], Tensor],
    *,
    smallest: int = 1,
) -> PairedScore:
    values = torch.cat([measure(x, y) for x, y in _pairs(real, fake, metric, smallest)])
    n, value = len(values), values.mean().item()
    error = (values.std() / math.sqrt(n)).item() if n > 1 and math.isfinite(value) else None
    return PairedScore(value, error, n, n, f"{metric}[n={n}]", values=values)


def _pairs(real: Array, fake: Array, metric: str, smallest: int) -> Iterator[tuple[Tensor, Tensor]]:
    x, y = torch.as_tensor(real), torch.as_tensor(fake)
    if x.shape != y.shape:
        raise DataError(f"fake: found shape {tuple(y.shape)}, wanted {tuple(x.shape)} as in real")
    if not x.numel():
        raise DataError("real: found no images, wanted at least one pair")
    for start in range(0, len(x), _CHUNK):
        rows = slice(start, start + _CHUNK)
        originals, copies = check_images("real", x[rows]), check_images("fake", y[rows])
        height, width = originals.shape[2:]
        if min(height, width) < smallest:
            raise DataError(
                f"real: found {height}×{width} pixels, {metric} wants {smallest}×{smallest} or more"
            )
        yield originals.cpu().double(), copies.cpu().double()


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    mean_x, mean_y = _window(x), _window(y)
    variance_x = _window(x * x) - mean_x**2
    variance_y = _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    similarity /= (mean_x**2 + mean_y**2 + _C1) * (variance_x + variance_y + _C2)
    return similarity.flatten(1).mean(dim=1)


def _window(x: Tensor) -> Tensor:
    smooth = gaussian_filter(x.numpy(), (0, 0, _DEVIATION, _DEVIATION), radius=_RADIUS)
    return torch.from_numpy(np.ascontiguousarray(smooth[:, :, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS]))
