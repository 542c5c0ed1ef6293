"""From one example to another through the space of codes.

Shapes: B pairs, Z latent dimensions.
"""

import math
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from bestiary.data.specs import Classes, Spec
from bestiary.data.splits import Batch, Split
from bestiary.errors import BestiaryError, DataError, OptionError, unknown_name
from bestiary.models.adversarial.base import AdversarialModel
from bestiary.models.base import Model
from bestiary.models.latent.spherical_vae import SphericalVAE
from bestiary.models.noise import Draws
from bestiary.runs.pictures import image_grid
from bestiary.tasks.codes import codes_of, examples_of

PathName = Literal["linear", "spherical"]

_ROWS = 256  # codes that are decoded at a time
_PARALLEL = 1e-6  # of two unit vectors: the sine below which float32 codes do not say in which plane they are


def interpolate(
    model: Model,
    a: Tensor,
    b: Tensor,
    *,
    steps: int,
    path: PathName | None = None,
    condition: Tensor | tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    r"""What is between two examples, for a model: the mean examples of codes on the way between theirs.

    Arguments:
        model: any Encoder.
        a, b: examples, both (B, \*spec.shape).
        steps: codes of each pair, the reconstructions of a and b among them.
        path: see `code_path`; None for `natural_path(model)`.
        condition: where the spec has a condition, a row for each pair; or the rows of a and those of b:
            vectors are mixed along the way, classes must be the same.

    Returns:
        a tensor (B, steps, \*spec.shape).

    Raises:
        BestiaryError: a model that has no codes.
        OptionError: fewer than two steps, or an unknown path.
        DataError: other numbers of a and b, conditions as the model does not want them, or different classes.

    Example:
        >>> a, b = data.test[:8], data.test[8:16]
        >>> between = interpolate(model, a.x, b.x, steps=9)
        >>> interpolation_picture(a.x, b.x, between).save("interpolations.png")
    """
    if len(a) != len(b):
        raise DataError(f"b: found {len(b)} examples, wanted {len(a)}, as many as there are in a")
    first, last = condition if isinstance(condition, tuple) else (condition, condition)
    z = code_path(
        codes_of(model, a, condition=first),
        codes_of(model, b, condition=last),
        steps=steps,
        path=natural_path(model) if path is None else path,
    )
    rows = None if first is None or last is None else _mixed(first, last, steps).flatten(0, 1)
    images = examples_of(model, z.flatten(0, 1), condition=rows)
    return images.view(len(a), steps, *images.shape[1:])


def interpolate_codes(
    model: Model,
    n: int,
    *,
    steps: int,
    path: PathName | None = None,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""What is between two samples, for a model without an encoder: G(z) of codes between drawn ones.

    A model that has learnt the training images by heart jumps from one to the next; along the way of one that
    has not, every image is a possible one (*Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks*, Radford et al., 2016, arXiv 1511.06434, §6.1).

    Arguments:
        model: any adversarial model.
        n: pairs of codes, drawn from the model's prior.
        steps: codes of each pair, both ends among them.
        path: see `code_path`; None for `natural_path(model)`.
        condition: where the spec has a condition, a row for each pair.
        generator: of the codes.

    Returns:
        a tensor (n, steps, \*spec.shape).

    Raises:
        BestiaryError: a model that is not adversarial.
        OptionError: fewer than two steps, or an unknown path.
        DataError: conditions as the model does not want them.

    Example:
        >>> rows = interpolate_codes(model, 8, steps=9)
        >>> image_grid(rows.flatten(0, 1), columns=9).save("between.png")
    """
    if not isinstance(model, AdversarialModel):
        raise BestiaryError(
            f"model: found {type(model).__name__}, wanted an adversarial model (where there is an encoder,"
            " `interpolate` goes from example to example)"
        )
    first, last = (model.codes(Draws(model, n, generator)) for _ in range(2))
    z = code_path(first, last, steps=steps, path=natural_path(model) if path is None else path).flatten(0, 1)
    vectors = model.vectors(condition, n)
    rows = None if vectors is None else vectors.repeat_interleave(steps, dim=0)
    with model.evaluation():
        x = torch.cat(
            [
                model.generate(z[part], None if rows is None else rows[part])
                for part in torch.arange(len(z), device=z.device).split(_ROWS)
            ]
        )
    return x.view(n, steps, *x.shape[1:])


def natural_path(model: Model) -> PathName:
    """The path that stays where a model's codes are.

    "spherical" if they are directions, or a generator's normal ones, nearly all of which have one length;
    else "linear".
    """
    if isinstance(model, AdversarialModel):
        return "spherical" if model.prior == "normal" else "linear"
    return "spherical" if isinstance(model, SphericalVAE) else "linear"


def code_path(a: Tensor, b: Tensor, *, steps: int, path: PathName = "linear") -> Tensor:
    r"""Codes on the way from a to b, at equal distances t = 0 … 1, the ends among them.

    "linear" is (1 − t) a + t b. "spherical" turns at a constant speed from one direction to the other, along
    the great circle, while the length goes in a line; for codes of one length it is

    .. math::
        \frac{\sin((1 - t)\theta)}{\sin\theta} a + \frac{\sin(t\theta)}{\sin\theta} b,
        \qquad \cos\theta = \frac{a \cdot b}{\|a\| \|b\|}.

    Codes drawn from a normal prior of many dimensions have nearly one length, and a line between two of them
    passes where the prior has no mass. Where θ = 0 the path is straight; where θ = π, all great circles lead
    to b, and it takes the one through the axis that is nearest to a right angle from a. With a code of
    length zero, or in one dimension, where there is no way around, it is straight too.

    References:
        *Sampling Generative Networks* (White, 2016), arXiv 1609.04468.

    Departures: the paper uses the formula for codes of different lengths too, where it grows without bound as
    θ nears π.

    Arguments:
        a, b: codes, both (B, Z).
        steps: number of codes.
        path: "linear" or "spherical".

    Returns:
        a tensor (B, steps, Z).

    Raises:
        OptionError: fewer than two steps, or an unknown path.
        DataError: codes of different shapes.
    """
    if steps < 2:
        raise OptionError(f"steps: found {steps}, wanted at least 2, the two ends")
    if path not in get_args(PathName):
        raise unknown_name("path", path, get_args(PathName))
    if a.shape != b.shape or a.ndim != 2:
        raise DataError(f"b: found codes of shape {tuple(b.shape)} for a of {tuple(a.shape)}, wanted (B, Z)")
    start, end = a.detach().cpu().double()[:, None], b.detach().cpu().double()[:, None]  # (B, 1, Z)
    t = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None]
    straight = (1 - t) * start + t * end
    z = straight if path == "linear" or a.shape[1] == 1 else _arc(start, end, t, straight)
    return z.to(a)


def example_pairs(
    split: Split, spec: Spec, n: int, *, generator: torch.Generator | None = None
) -> tuple[Batch, Batch]:
    """At most `n` pairs of different examples, drawn at random; of the same class where it is a condition.

    Raises:
        DataError: not one pair is there.
    """
    classes = spec.condition.n if isinstance(spec.condition, Classes) else 0
    wanted = 2 * n + classes  # at most one example of each class stays alone
    if split.endless:
        pool = split.take(torch.arange(wanted), generator=generator)
    else:
        pool = split[torch.randperm(len(split), generator=generator)[:wanted]]
    kinds = pool.condition.tolist() if classes and pool.condition is not None else [0] * len(pool)
    alone: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    for index, kind in enumerate(kinds):
        if kind in alone:
            pairs.append((alone.pop(kind), index))
        else:
            alone[kind] = index
    if not pairs:
        raise DataError(f"split: found {len(pool)} examples and no pair of one class, wanted at least one")
    first, second = (torch.tensor(side) for side in zip(*pairs[:n], strict=True))
    return _rows(pool, first), _rows(pool, second)


def interpolation_picture(a: Tensor, b: Tensor, between: Tensor) -> Image.Image:
    """A row for each pair: the example a, what is between, and the example b.

    Arguments:
        a, b: images in [0, 1], (B, C, H, W).
        between: of `interpolate`, (B, steps, C, H, W).
    """
    rows = torch.cat([a[:, None], between.to(a), b[:, None]], dim=1)
    return image_grid(rows.flatten(0, 1), columns=rows.shape[1])


def _arc(start: Tensor, end: Tensor, t: Tensor, straight: Tensor) -> Tensor:
    """Great circles from `start` to `end` (B, 1, Z) at times t (T, 1), their lengths going in a line."""
    length, last_length = start.norm(dim=2, keepdim=True), end.norm(dim=2, keepdim=True)
    u, v = start / length, end / last_length
    angle = 2 * torch.atan2((u - v).norm(dim=2, keepdim=True), (u + v).norm(dim=2, keepdim=True))
    right = v - (u * v).sum(2, keepdim=True) * u  # where the circle is after a quarter of a turn
    sine = right.norm(dim=2, keepdim=True)
    axis = torch.zeros_like(u).scatter(2, u.abs().argmin(2, keepdim=True), 1.0)
    around = axis - (u * axis).sum(2, keepdim=True) * u
    right = torch.where(sine < _PARALLEL, around / around.norm(dim=2, keepdim=True), right / sine)
    angle = torch.where((sine < _PARALLEL) & (angle > math.pi / 2), math.pi, angle)
    z = ((1 - t) * length + t * last_length) * ((t * angle).cos() * u + (t * angle).sin() * right)
    return torch.where((length == 0) | (last_length == 0), straight, z)


def _mixed(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Conditions on the way, (B, steps, …)."""
    if first.is_floating_point():
        t = torch.linspace(0, 1, steps, dtype=first.dtype, device=first.device)[:, None]
        return (1 - t) * first[:, None] + t * last[:, None]
    if not torch.equal(first, last):
        raise DataError("condition: found pairs of different classes, wanted one class for both of a pair")
    return first[:, None].expand(-1, steps)


def _rows(batch: Batch, rows: Tensor) -> Batch:
    return Batch(batch.x[rows], None if batch.condition is None else batch.condition[rows])
