"""What each number of a code stands for: one example's code moved along one dimension after the other."""

import math

import torch
from torch import Tensor

from bestiary.errors import BestiaryError, DataError, OptionError
from bestiary.models.base import Encoder, Model

_ROWS = 256  # codes that are decoded at a time


def latent_traversals(
    model: Model,
    x: Tensor,
    *,
    condition: Tensor | None = None,
    reference: Tensor | None = None,
    reach: float = 3.0,
    steps: int = 7,
) -> Tensor:
    r"""Images of one example's code, of which one number at a time takes other values:

    .. math::
        z_j = m_j + t s_j, \qquad t = -\text{reach}, \dots, \text{reach}

    with all other numbers as they are. m and s are those of a standard normal prior, 0 and 1, or the mean and
    the deviation of the codes of `reference`, for models whose codes have no such prior.

    References:
        *beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework* (Higgins et al.,
        2017), ICLR, Figures 1 to 3: a reach of 3.

    Arguments:
        model: any Encoder.
        x: the example, shape (1, \*spec.shape).
        condition: its condition, of one row, where the spec has one; the images are of the same.
        reference: examples (n, \*spec.shape), at least two, of the same condition; None for the prior.
        reach: how far to go, in deviations.
        steps: values that each number takes, from one end to the other.

    Returns:
        a tensor (Z, steps, \*spec.shape): row j are the images along dimension j. `image_grid` of its rows,
        `columns=steps`, is the picture.

    Raises:
        BestiaryError: a model that has no codes.
        DataError: not one example, fewer than two of reference, or as the model wants them.
        OptionError: a reach that is not above 0, or fewer than two steps.

    Example:
        >>> images = latent_traversals(model, data.test[:1].x, steps=9)
        >>> image_grid(images.flatten(0, 1), columns=9).save("traversals.png")
    """
    if not isinstance(model, Encoder):
        raise BestiaryError(f"model: found {type(model).__name__}, wanted one that has codes of examples")
    if len(x) != 1:
        raise DataError(f"x: found {len(x)} examples, wanted one, shape (1, …)")
    if not 0 < reach < math.inf:
        raise OptionError(f"reach: found {reach}, wanted a number > 0")
    if steps < 2:
        raise OptionError(f"steps: found {steps}, wanted at least 2")
    with model.evaluation():
        z = model.encode(x, condition=condition)
        mean, deviation = torch.zeros_like(z[0]), torch.ones_like(z[0])
        if reference is not None:
            if len(reference) < 2:
                raise DataError(f"reference: found {len(reference)} examples, wanted at least 2")
            codes = [
                model.encode(part, condition=_rows(condition, len(part))) for part in reference.split(_ROWS)
            ]
            deviation, mean = torch.std_mean(torch.cat(codes), dim=0)
        t = torch.linspace(-reach, reach, steps, dtype=z.dtype, device=z.device)
        values = mean[:, None] + t * deviation[:, None]  # (Z, steps)
        moved = z.repeat(z.shape[1], steps, 1)  # (Z, steps, Z)
        moved.diagonal(dim1=0, dim2=2).copy_(values.T)
        parts = moved.flatten(0, 1).split(_ROWS)
        images = torch.cat([model.decode(part, condition=_rows(condition, len(part))) for part in parts])
    return images.view(*moved.shape[:2], *images.shape[1:])


def _rows(condition: Tensor | None, n: int) -> Tensor | None:
    return None if condition is None else condition.expand(n, *condition.shape[1:])
