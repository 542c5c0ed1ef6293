"""Codes of any number of examples, and examples of any number of codes, a few at a time."""

import torch
from torch import Tensor

from bestiary.errors import BestiaryError
from bestiary.models.base import Encoder, Model

_ROWS = 256


def codes_of(model: Model, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
    r"""The codes of examples, `model.encode` of a few hundred at a time.

    Arguments:
        model: any Encoder.
        x: examples (n, \*spec.shape).
        condition: one row per example where the spec has a condition, else None.

    Returns:
        a tensor (n, Z).

    Raises:
        BestiaryError: a model that has no codes.
        DataError: conditions as the model does not want them.
    """
    coder = _encoder(model)
    with model.evaluation():
        return torch.cat(
            [coder.encode(rows, condition=part) for rows, part in _parts(x, condition)],
        )


def examples_of(model: Model, z: Tensor, *, condition: Tensor | None = None) -> Tensor:
    r"""The mean examples of codes (n, Z), `model.decode` of a few hundred at a time: (n, \*spec.shape).

    Raises:
        BestiaryError: a model that has no codes.
        DataError: conditions as the model does not want them.
    """
    coder = _encoder(model)
    with model.evaluation():
        return torch.cat([coder.decode(rows, condition=part) for rows, part in _parts(z, condition)])


def _encoder(model: Model) -> Encoder:
    if not isinstance(model, Encoder):
        raise BestiaryError(f"model: found {type(model).__name__}, wanted one that has codes of examples")
    return model


def _parts(x: Tensor, condition: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
    rows = x.split(_ROWS)
    parts = [None] * len(rows) if condition is None else condition.split(_ROWS)
    return list(zip(rows, parts, strict=True))
