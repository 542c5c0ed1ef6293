"""What a model may be given: images and conditions checked against its spec, in one line if wrong."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.data.specs import Classes, ImageSpec, PointSpec, Spec
from bestiary.errors import DataError, OptionError


def image_spec(spec: Spec, model: str) -> ImageSpec:
    """The spec as an `ImageSpec`, for models of images alone.

    Raises:
        DataError: the data are no images.
    """
    if not isinstance(spec, ImageSpec):
        raise DataError(f"spec: {model} is a model of images, found {type(spec).__name__}, wanted ImageSpec")
    return spec


def continuous_spec(spec: Spec, model: str) -> ImageSpec | PointSpec:
    """The spec of images or points, for models that compute with their numbers.

    Raises:
        DataError: the data are neither.
    """
    if not isinstance(spec, ImageSpec | PointSpec):
        raise DataError(f"spec: {model} wants images or points, found {type(spec).__name__}")
    return spec


def check_examples(spec: Spec, x: Tensor) -> None:
    """Raise a `DataError` unless x is a float batch of the spec's shape."""
    if not isinstance(x, Tensor):
        raise DataError(f"x: found {type(x).__name__}, wanted a tensor of shape (B, {_sizes(spec)})")
    if x.shape[1:] != spec.shape or not x.is_floating_point():
        kind = "images" if isinstance(spec, ImageSpec) else "points"
        found = f"{x.dtype} of shape {tuple(x.shape)}"
        raise DataError(f"x: found {found}, wanted float {kind} of shape (B, {_sizes(spec)})")


def check_values(spec: Spec, x: Tensor) -> None:
    """Raise a `DataError` unless x is a float batch of the spec's shape, images in [0, 1], points finite."""
    check_examples(spec, x)
    if isinstance(spec, ImageSpec):
        if x.numel() and not (x.min() >= 0 and x.max() <= 1):
            raise DataError(f"x: found values from {x.min():g} to {x.max():g}, wanted images in [0, 1]")
    elif not x.isfinite().all():
        raise DataError("x: found values that are not finite, wanted points")


def on_levels(spec: Spec, x: Tensor) -> Tensor:
    """Checked examples: images at the nearest of their levels, points as they are.

    Raises:
        DataError: as `check_values`.
    """
    check_values(spec, x)
    return (x * (spec.levels - 1)).round() / (spec.levels - 1) if isinstance(spec, ImageSpec) else x


def check_codes(z: Tensor, latent_dim: int, n: int | None = None) -> None:
    """Raise a `DataError` unless z is a float batch of codes (n, latent_dim)."""
    sound = isinstance(z, Tensor) and z.ndim == 2 and z.is_floating_point()
    if sound and z.shape[1] == latent_dim and n in (None, len(z)):
        return
    found = f"{z.dtype} of shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
    rows = "n" if n is None else n
    raise DataError(f"z: found {found}, wanted float codes of shape ({rows}, {latent_dim})")


def observed_like(x: Tensor, observed: Tensor, examples: str) -> Tensor:
    """A mask in the shape of x.

    Arguments:
        x: examples, (B, …).
        observed: bool, of a shape that broadcasts to x.
        examples: what to call them in the message: "images", "sequences".

    Raises:
        DataError: a mask of another type or shape.
    """
    try:
        shaped = observed.expand(x.shape)
    except RuntimeError:
        shaped = None
    if shaped is None or observed.dtype != torch.bool:
        found = f"{observed.dtype} of shape {tuple(observed.shape)}"
        raise DataError(f"observed: found {found}, wanted bool of the {examples}' shape {tuple(x.shape)}")
    return shaped


def check_observed(spec: ImageSpec, x: Tensor, observed: Tensor) -> Tensor:
    """`observed` in the shape of the images x; what is not observed of these may be anything, nan too.

    Raises:
        DataError: images or masks of another shape or kind, or observed values outside [0, 1].
    """
    check_examples(spec, x)
    shaped = observed_like(x, observed, "images")
    inside = x[shaped]
    if inside.numel() and not (inside.min() >= 0 and inside.max() <= 1):
        raise DataError("x: found observed values outside [0, 1], wanted images in [0, 1]")
    return shaped


def _sizes(spec: Spec) -> str:
    return ", ".join(map(str, spec.shape))


def check_maps(spec: ImageSpec, **maps: int) -> None:
    """Raise an `OptionError` unless each of these numbers of maps has one for every channel of the image."""
    if min(maps.values()) < spec.channels:
        found = " and ".join(map(str, maps.values()))
        raise OptionError(
            f"{', '.join(maps)}: found {found}, wanted at least one map for each of the image's "
            f"{spec.channels} channels"
        )


def condition_dim(spec: Spec) -> int:
    """Length of a conditioning vector of `condition_vectors`, 0 without conditions."""
    kind = spec.condition
    return 0 if kind is None else kind.n if isinstance(kind, Classes) else kind.d


def condition_vectors(
    spec: Spec, condition: Tensor | None, batch: int, dtype: torch.dtype = torch.float32
) -> Tensor | None:
    """Conditions as float vectors (B, d): classes one-hot, vectors as they are; None without any.

    Raises:
        DataError: conditions that are missing, not expected, or of another shape or kind.
    """
    kind = spec.condition
    found = "None" if condition is None else f"{condition.dtype} of shape {tuple(condition.shape)}"
    if kind is None:
        if condition is None:
            return None
        wanted = "None, because the model is unconditional"
    elif isinstance(kind, Classes):
        wanted = f"int64 labels from 0 to {kind.n - 1} of shape ({batch},), one for each example"
        if condition is not None and condition.dtype == torch.int64 and condition.shape == (batch,):
            if ((condition >= 0) & (condition < kind.n)).all():
                return F.one_hot(condition, kind.n).to(dtype)
            found = f"labels from {condition.min()} to {condition.max()}"
    else:
        wanted = f"float vectors of shape ({batch}, {kind.d}), one for each example"
        shape = (batch, kind.d)
        if condition is not None and condition.is_floating_point() and condition.shape == shape:
            return condition.to(dtype)
    raise DataError(f"condition: found {found}, wanted {wanted}")
