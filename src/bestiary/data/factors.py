"""Factors: what an example is made of, for data whose makers know it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bestiary.errors import DataError

Values = NDArray[np.int64]
Levels = NDArray[np.uint8]


@dataclass(frozen=True)
class Factors:
    """The factors that determine the examples of a data set, K in number, each with finitely many values.

    Attributes:
        names: of the factors, (K,).
        sizes: how many values each factor has; they count from 0.
        train, validation, test: the values of each split's examples, int64, (N, K), in their order.
        levels: L of the images.
        paint: levels k of examples with given values, (n, K) to uint8 (n, C, H, W); `draw` checks and scales.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    train: Tensor
    validation: Tensor
    test: Tensor
    levels: int
    paint: Callable[[Values], Levels]

    def draw(self, values: Tensor) -> Tensor:
        """The examples with the given values of the factors, whether or not a split has them.

        Arguments:
            values: whole numbers, shape (n, K).

        Returns:
            Float in [0, 1], shape (n, C, H, W), on the CPU; the same values give the same image.

        Raises:
            DataError: values of another shape or type, or that are out of range.
        """
        if values.ndim != 2 or values.shape[1] != len(self.sizes) or values.is_floating_point():
            raise DataError(
                f"values: found {values.dtype} of shape {tuple(values.shape)}, wanted whole numbers of shape "
                f"(n, {len(self.sizes)}): {', '.join(self.names)}"
            )
        values = values.cpu().long()
        for name, size, column in zip(self.names, self.sizes, values.T, strict=True):
            wrong = column[(column < 0) | (column >= size)]
            if len(wrong):
                raise DataError(f"values: found {name} = {int(wrong[0])}, wanted 0 to {size - 1}")
        return as_images(self.paint(values.numpy()), self.levels)


def as_images(k: Levels, levels: int) -> Tensor:
    """The public images k/(L−1) of levels k, float in [0, 1]."""
    x = k.astype(np.float32)
    x /= levels - 1  # in numpy: two torch threads would wait for each other longer than this takes
    return torch.from_numpy(x)
