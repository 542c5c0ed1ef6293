"""Sums and differences of codes: the direction of an attribute, and images that have more of it."""

import torch
from torch import Tensor

from bestiary.errors import DataError
from bestiary.models.base import Model
from bestiary.tasks.codes import codes_of, examples_of


def attribute_direction(
    model: Model,
    x_with: Tensor,
    x_without: Tensor,
    *,
    condition: tuple[Tensor, Tensor] | None = None,
    groups: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    r"""Where an attribute lies in the space of codes: the difference of the mean codes,

    .. math::
        v = \frac{1}{|G|} \sum_{g \in G} E[z | \text{with}, g] - E[z | \text{without}, g],

    with G a single group of all examples unless `groups` says more. Attributes that come together in the data
    (glasses and grey hair) come together in the plain difference; it is rid of the others if they are the
    groups, each of which counts the same on both sides however many examples it has.

    References:
        *Autoencoding beyond pixels using a learned similarity metric* (Larsen et al., 2016), arXiv
        1512.09300; *Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
        Networks* (Radford et al., 2016), arXiv 1511.06434; *Sampling Generative Networks* (White, 2016),
        arXiv 1609.04468, for the groups, which are balanced there by repeating examples.

    Arguments:
        model: any Encoder.
        x_with, x_without: examples that have the attribute, (n, \*spec.shape), and that have not,
            (m, \*spec.shape).
        condition: where the spec has a condition, that of both, a row for each example.
        groups: of both, whole numbers (n,) and (m,): which combination of other attributes an example has.
            Groups that one side lacks are left out.

    Returns:
        v, shape (Z,).

    Raises:
        BestiaryError: a model that has no codes.
        DataError: a side without examples, groups of another shape or without one that both sides have, or
            conditions as the model does not want them.
    """
    conditions: tuple[Tensor | None, Tensor | None] = (None, None) if condition is None else condition
    for name, x in (("x_with", x_with), ("x_without", x_without)):
        if not len(x):
            raise DataError(f"{name}: found no examples, wanted at least one")
    if groups is None:
        groups = (torch.zeros(len(x_with)), torch.zeros(len(x_without)))
    wanted = ((len(x_with),), (len(x_without),))
    if tuple(tuple(side.shape) for side in groups) != wanted:
        found = " and ".join(str(tuple(side.shape)) for side in groups)
        raise DataError(f"groups: found shapes {found}, wanted {wanted[0]} and {wanted[1]}")
    sides = (
        codes_of(model, x_with, condition=conditions[0]),
        codes_of(model, x_without, condition=conditions[1]),
    )
    own, other = (side.to(sides[0].device) for side in groups)
    shared = [group for group in own.unique() if (other == group).any()]
    if not shared:
        raise DataError("groups: found none that examples with and without the attribute share, wanted one")
    return torch.stack(
        [sides[0][own == group].mean(0) - sides[1][other == group].mean(0) for group in shared]
    ).mean(0)


def add_attribute(
    model: Model,
    x: Tensor,
    direction: Tensor,
    strength: float = 1.0,
    *,
    condition: Tensor | None = None,
) -> Tensor:
    r"""Examples with more of an attribute: the mean examples of z(x) + strength · direction.

    Arguments:
        model: any Encoder.
        x: examples (B, \*spec.shape).
        direction: of `attribute_direction`, (Z,).
        strength: how much of it; below zero takes it away, and 0 gives the reconstruction.
        condition: one row per example where the spec has a condition, else None.

    Returns:
        a tensor (B, \*spec.shape).

    Raises:
        BestiaryError: a model that has no codes.
        DataError: a direction of another shape than a code, or conditions as the model does not want them.
    """
    z = codes_of(model, x, condition=condition)
    if direction.shape != z.shape[1:]:
        raise DataError(
            f"direction: found shape {tuple(direction.shape)}, wanted {tuple(z.shape[1:])}, that of a code"
        )
    return examples_of(model, z + strength * direction.to(z), condition=condition)
