"""Where an autoregressive model pays: its likelihood by position and by bit plane, on true and own images.

Shapes: B batch, C channels, H height, W width, K levels, b bit planes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.errors import OptionError
from bestiary.models.autoregressive.base import SCORE_CHUNK, SCORE_LOGITS, Autoregressive
from bestiary.models.base import Model
from bestiary.models.inputs import check_values


def log_prob_map(model: Autoregressive, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """log p(x_i | x_1 … x_{i−1}) of every sub-pixel, nats, shape (B, C, H, W); its sum is `log_prob`.

    Of the law that samples are drawn from: exact masses, also where `pixelcnn++` reports the published
    approximation of them (`faithful`).

    Arguments:
        model: any autoregressive model of images.
        x: images in [0, 1], shape (B, C, H, W), rounded to the nearest level; scored in chunks.
        condition: one row per image where the spec has a condition, else None.

    Raises:
        DataError: images outside [0, 1]; images or conditions of another shape or kind than the spec's.
        OptionError: another model than an autoregressive one of images.
    """
    return _by_chunks(model, x, condition, _pick)


def bit_plane_map(model: Autoregressive, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """What each bit of every sub-pixel costs, bits, shape (B, b, C, H, W), the most significant bit first.

    Bit j is predicted from the more significant bits of its sub-pixel and from all earlier sub-pixels; the
    sum over bits and positions is −log₂ p(x) exactly.

    Arguments: as `log_prob_map`.

    Raises:
        DataError: as `log_prob_map`.
        OptionError: a number of levels that is no power of two.
    """
    check_autoregressive(model)
    _count_planes(model.spec.levels)
    return _by_chunks(model, x, condition, bit_planes)


def bit_planes(log_mass: Tensor, levels: Tensor) -> Tensor:
    """−log₂ p(bit j | more significant bits) of levels k = Σ_j 2^(b−1−j) bit_j, from the masses of levels.

    p(bits 0 … j) is the sum of the masses of the 2^(b−1−j) levels that begin with these bits, and the cost of
    bit j is log₂ p(bits 0 … j−1) − log₂ p(bits 0 … j).

    Arguments:
        log_mass: log p(k), nats, normalised, shape (B, K, …) with K = 2^b.
        levels: the true k, int64, shape (B, …).

    Returns:
        bits, shape (B, b, …), the most significant bit first; their sum over b is −log₂ p(k).

    Raises:
        OptionError: a number of levels that is no power of two.
    """
    planes = _count_planes(log_mass.shape[1])
    costs, known = [], torch.zeros_like(log_mass[:, 0])
    for plane in range(planes):
        beginnings = log_mass.unflatten(1, (2 ** (plane + 1), -1)).logsumexp(dim=2)
        joint = _pick(beginnings, levels >> (planes - 1 - plane))
        costs.append((known - joint) / math.log(2))
        known = joint
    return torch.stack(costs, dim=1)


@dataclass(frozen=True)
class Drift:
    """What a model pays for true images and for images that it went on with itself.

    Attributes:
        true: −log p(x_i | x_1 … x_{i−1}) of true images, nats, (B, C, H, W): every sub-pixel after true ones,
            as in training ("teacher forcing"). Its mean over images is the cross-entropy by position.
        own: the same of images whose first `given` pixels are those of the true image and whose others the
            model has drawn ("free running"). Its mean is the model's entropy by position.
        missing: which pixels the model has drawn, bool (H, W).
    """

    true: Tensor
    own: Tensor
    missing: Tensor

    @property
    def by_position(self) -> Tensor:
        """Mean of own − true over the images, nats, shape (C, H, W); 0 where pixels were given."""
        return (self.own - self.true).mean(dim=0)

    @property
    def excess_entropy(self) -> tuple[float, float]:
        """Mean of own − true over what was drawn, bits/dim, and its standard error over images.

        Above 0 the model is less sure of its own images than of true ones: it has drifted to where it knows
        less. Below 0 its own images are plainer than true ones. For the true law it is 0.
        """
        nats = (self.own - self.true)[:, :, self.missing].flatten(1).double().mean(dim=1)
        bits = nats / math.log(2)
        return float(bits.mean()), float(bits.std() / math.sqrt(len(bits)))


def free_running(
    model: Autoregressive,
    x: Tensor,
    *,
    given: int = 0,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Drift:
    """Let a model go on with true images from their first pixels, and see how sure it is of what it draws.

    A model is trained on true pixels alone, and draws after pixels of its own. The difference of its
    entropy there and its cross-entropy on true images is 0 for the true law; where errors feed on errors it
    grows with the distance from the last true pixel.

    References:
        *Calibration, Entropy Rates, and Memory in Language Models* (Braverman et al., 2020), arXiv
        1906.05664, for words; here pixels, and by position.

    Arguments:
        model: any autoregressive model of images.
        x: true images in [0, 1], shape (B, C, H, W).
        given: how many pixels, the first ones of `model.order`, are the true ones; r·W for r rows in raster
            order, 0 for samples.
        condition: one row per image where the spec has a condition, else None.
        generator: of what the model draws.

    Raises:
        OptionError: `given` that is not at least 0 and fewer than the pixels of an image.
        DataError: as `log_prob_map`.
    """
    check_autoregressive(model)
    pixels = model.spec.height * model.spec.width
    if not 0 <= given < pixels:
        raise OptionError(
            f"given: found {given}, wanted at least 0 and fewer than the {pixels} pixels of an image"
        )
    true = -log_prob_map(model, x, condition)
    missing = torch.ones(model.spec.shape[1:], dtype=torch.bool, device=x.device)
    for row, column in list(model.order)[:given]:
        missing[row, column] = False
    drawn = model.complete(x, ~missing, condition=condition, generator=generator, particles=1)[0]
    return Drift(true, -log_prob_map(model, drawn, condition), missing)


def check_autoregressive(model: Model) -> None:
    """Raise an `OptionError` unless a model is an autoregressive one of images."""
    if not isinstance(model, Autoregressive):
        raise OptionError(
            f"model: found {type(model).__name__}, wanted an autoregressive model of images, as"
            " gated-pixelcnn"
        )


def _by_chunks(
    model: Autoregressive,
    x: Tensor,
    condition: Tensor | None,
    reduce: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """`reduce` of log masses (b, K, C, H, W) and true levels (b, C, H, W), for some images at a time."""
    check_autoregressive(model)
    check_values(model.spec, x)
    model.condition_vectors(condition, len(x))
    top = model.spec.levels - 1
    size = max(1, min(SCORE_CHUNK, SCORE_LOGITS // (model.spec.levels * model.spec.dimensions)))
    parts = []
    with model.evaluation():
        for rows in torch.arange(len(x), device=x.device).split(size):
            levels = (x[rows] * top).round()
            logits = model.logits(levels / top, None if condition is None else condition[rows])
            parts.append(reduce(torch.log_softmax(logits, dim=1), levels.long()))
    return torch.cat(parts)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index[:, None])[:, 0]


def _count_planes(levels: int) -> int:
    planes = levels.bit_length() - 1
    if levels != 2**planes:
        raise OptionError(f"levels: found {levels}, wanted a power of two, or there are no bit planes")
    return planes
