"""Fill in what is missing of images: masks, completions, and the likelihood of what is really there.

Shapes: B images, n completions of each, C channels, H height, W width.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from bestiary.data.decode import UnreadableError, decode
from bestiary.data.specs import ImageSpec
from bestiary.errors import BestiaryError, DataError, OptionError, unknown_name
from bestiary.models.autoregressive.base import PARTICLES, Autoregressive
from bestiary.models.autoregressive.completion import Completion
from bestiary.models.autoregressive.order_agnostic import OrderAgnostic
from bestiary.models.base import Completer, Model
from bestiary.runs.pictures import image_grid
from bestiary.tasks.likelihood_maps import check_autoregressive, log_prob_map

MASKS = ("lower", "upper", "left", "right", "centre", "random")
MISSING_COLOUR = (0.42, 0.36, 0.83)  # of no grey image, and of few others
_LIGHT = 128  # of 256 levels


@dataclass(frozen=True)
class ConditionalLikelihood:
    """What a model pays for the truth of what was hidden from it.

    Attributes:
        bits_per_dim: −log₂ p(x_missing | x_observed) divided by the number of missing sub-pixels, (B,).
        effective_sample_size: how many of the particles that estimated it count, the lowest over an image's
            estimates, (B,); None where none were needed.
    """

    bits_per_dim: Tensor
    effective_sample_size: Tensor | None = None


@dataclass(frozen=True)
class Completed:
    """Completions of images whose truth is known.

    Attributes:
        images: shape (n, B, C, H, W), observed values unchanged.
        truth: the likelihood of what was hidden; None for a model without likelihood.
    """

    images: Tensor
    truth: ConditionalLikelihood | None


def observed_pixels(
    mask: str, spec: ImageSpec, n: int = 1, *, generator: torch.Generator | None = None
) -> Tensor:
    """Which pixels a mask leaves to be seen, bool, shape (n, 1, H, W).

    Arguments:
        mask: what is hidden: the "lower", "upper", "left" or "right" half; the "centre", half as high and
            half as wide as the image; "random", every pixel with probability ½, anew for each image; or the
            path of an image file of the same size, whose light pixels are hidden.
        spec: of the images.
        n: number of images.
        generator: of the random mask.

    Raises:
        OptionError: an unknown mask, a file that is no image or of another size, or a mask that hides
            nothing of an image.
    """
    height, width = spec.height, spec.width
    row, column = torch.arange(height)[:, None], torch.arange(width)
    top, left = height // 4, width // 4
    if mask == "random":
        device = "cpu" if generator is None else generator.device
        hidden = torch.rand(n, 1, height, width, generator=generator, device=device) < 0.5
    elif mask in MASKS:
        hidden = {
            "lower": (row >= height // 2).expand(height, width),
            "upper": (row < height // 2).expand(height, width),
            "left": (column < width // 2).expand(height, width),
            "right": (column >= width // 2).expand(height, width),
            "centre": ((row >= top) & (row < top + (height + 1) // 2))
            & ((column >= left) & (column < left + (width + 1) // 2)),
        }[mask]
    else:
        hidden = _mask_file(mask, spec)
    if not hidden.expand(n, 1, height, width).flatten(1).any(dim=1).all():
        raise OptionError(f"mask: {mask!r} hides no pixel of an image, wanted at least one")
    return ~hidden.expand(n, 1, height, width)


def complete(
    model: Model,
    x: Tensor,
    observed: Tensor,
    *,
    n: int = 1,
    condition: Tensor | None = None,
    particles: int | None = None,
    generator: torch.Generator | None = None,
) -> Completed:
    """Draw what is missing of images whose truth is known, and say how likely the truth was.

    Arguments:
        model: any model that is a `Completer` of images.
        x: whole images in [0, 1], shape (B, C, H, W).
        observed: bool, of a shape that broadcasts to x.
        n: completions of each image.
        condition: one row per image where the spec has a condition, else None.
        particles: of an autoregressive model, see `Autoregressive.completion`; None for its own number.
        generator: of all draws.

    Raises:
        BestiaryError: the model completes no images.
        OptionError: particles of a model that has none; numbers below 1.
        DataError: images, masks or conditions of another shape or kind than the spec's, or an image of which
            nothing is missing.
    """
    if not isinstance(model, Completer):
        raise BestiaryError(f"model: found {type(model).__name__}, wanted one that fills in missing pixels")
    if not isinstance(model, Autoregressive):
        if particles is not None:
            raise OptionError(f"particles: {type(model).__name__} completes without any: leave it out")
        images = model.complete(x, observed, n=n, condition=condition, generator=generator)
        return Completed(images, None)
    particles = PARTICLES if particles is None else particles
    found = model.completion(x, observed, n=n, condition=condition, generator=generator, particles=particles)
    observed = model.check_completion(x, observed, n=n, particles=particles)
    truth = _exact(model, x, observed, condition) or _estimated(model, x, observed, condition, found)
    return Completed(found.images, truth)


def conditional_bits(
    model: Autoregressive,
    x: Tensor,
    observed: Tensor,
    *,
    n: int = 1,
    condition: Tensor | None = None,
    particles: int = PARTICLES,
    generator: torch.Generator | None = None,
    ignoring_later: bool = False,
    of_completions: bool = False,
) -> ConditionalLikelihood:
    """−log₂ p(x_missing | x_observed) of the truth, in bits for each missing sub-pixel.

    Exact for `order-agnostic`, which puts the observed ones first, and where no observed sub-pixel comes
    after a missing one: there it is the sum of log p(x_i | x_1 … x_{i−1}) over the missing ones. Elsewhere
    it is −(log p(x) − log p(x_observed)), with the mean of n estimates of p(x_observed) by P particles each.
    That mean is unbiased, its logarithm too low in the mean, and so are these bits: they flatter the model,
    the more so the fewer particles count.

    Arguments:
        model: any autoregressive model of images.
        x: whole images in [0, 1], shape (B, C, H, W).
        observed: bool, of a shape that broadcasts to x.
        n: independent estimates of p(x_observed).
        condition: one row per image where the spec has a condition, else None.
        particles: P of each estimate.
        generator: of the particles.
        ignoring_later: the sum over the missing ones whatever comes after them: not the conditional
            likelihood, but what a model pays that is run over the image and set right where it was observed.
        of_completions: what the truth costs under the law of the completions that `complete` draws with as
            many particles, in place of p(x_missing | x_observed). The mean of n estimates of its probability
            is unbiased, so that these bits are too high in the mean: the two enclose what the model knows.

    Raises:
        OptionError: numbers below 1.
        DataError: images, masks or conditions of another shape or kind than the spec's, or an image of which
            nothing is missing.
    """
    check_autoregressive(model)
    observed = model.check_completion(x, observed, n=n, particles=particles)
    if ignoring_later:
        return ConditionalLikelihood(_bits(_in_order(model, x, observed, condition), observed))
    exact = _exact(model, x, observed, condition)
    if exact is not None:
        return exact
    found = model.completion(
        x,
        observed,
        n=n,
        condition=condition,
        generator=generator,
        particles=particles,
        retained=of_completions,
    )
    return _estimated(model, x, observed, condition, found, of_completions)


def completion_picture(x: Tensor, observed: Tensor, images: Tensor) -> Image.Image:
    """A row for each image: the image, the same with what is missing in a flat colour, its completions.

    Arguments:
        x: whole images in [0, 1], shape (B, C, H, W) with C = 1 or 3.
        observed: bool, of a shape that broadcasts to x.
        images: completions, shape (n, B, C, H, W).
    """
    colour = x.new_tensor(MISSING_COLOUR)[:, None, None]
    seen = observed.expand(x.shape).all(dim=1, keepdim=True)
    masked = torch.where(seen, x, colour)  # three channels, also of one
    rows = [x.expand(masked.shape), masked, *(part.expand(masked.shape) for part in images)]
    return image_grid(torch.stack(rows, dim=1).flatten(0, 1), columns=len(rows))


def _exact(
    model: Autoregressive, x: Tensor, observed: Tensor, condition: Tensor | None
) -> ConditionalLikelihood | None:
    """Without particles, where that can be."""
    if isinstance(model, OrderAgnostic):
        with model.evaluation():
            return ConditionalLikelihood(
                _bits(model.log_prob_missing(x, observed, condition=condition), observed)
            )
    if model.looks_ahead(observed):
        return None
    return ConditionalLikelihood(_bits(_in_order(model, x, observed, condition), observed))


def _estimated(
    model: Autoregressive,
    x: Tensor,
    observed: Tensor,
    condition: Tensor | None,
    found: Completion,
    retained: bool = False,
) -> ConditionalLikelihood:
    """From the particles of a completion: p(x_observed) is unbiased, its inverse where one is retained."""
    log_prob = (
        log_prob_map(model, x, condition).flatten(1).sum(dim=1)
    )  # of the law that particles are drawn from
    sign = -1 if retained else 1
    log_mean = (sign * found.log_observed).logsumexp(dim=0) - math.log(len(found.log_observed))
    bits = _bits(log_prob - sign * log_mean, observed)
    return ConditionalLikelihood(bits, found.effective_sample_size.amin(dim=0))


def _in_order(model: Autoregressive, x: Tensor, observed: Tensor, condition: Tensor | None) -> Tensor:
    """Σ over the missing sub-pixels of log p(x_i | x_1 … x_{i−1}), nats, (B,)."""
    return (log_prob_map(model, x, condition) * ~observed).flatten(1).sum(dim=1)


def _bits(nats: Tensor, observed: Tensor) -> Tensor:
    missing = (~observed).flatten(1).sum(dim=1)
    if not missing.all():
        raise DataError("observed: found an image of which nothing is missing, wanted something to predict")
    return -nats / (missing * math.log(2))


def _mask_file(mask: str, spec: ImageSpec) -> Tensor:
    """The light pixels of an image file, bool (H, W)."""
    path = Path(mask)
    if not path.is_file():
        if path.suffix or path.parent != Path():
            raise OptionError(f"mask: found nothing at {mask!r}, wanted {', '.join(MASKS)} or an image file")
        raise unknown_name(
            "mask", mask, MASKS, "(or the path of an image file, whose light pixels are hidden)"
        )
    try:
        levels = decode(path, channels=1, size=None, fit="resize")[0]
    except UnreadableError as error:
        raise OptionError(f"mask: {mask!r} {error}, wanted an image file") from error
    if levels.shape != (spec.height, spec.width):
        found, wanted = f"{levels.shape[1]}×{levels.shape[0]}", f"{spec.width}×{spec.height}"
        raise OptionError(f"mask: found {found} pixels in {mask!r}, wanted {wanted}, the size of the images")
    return torch.from_numpy(levels >= _LIGHT)
