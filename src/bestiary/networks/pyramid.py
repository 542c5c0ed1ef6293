"""What convolutional networks for images of any size share: the sizes on the way down, and the range.

Sides are halved and rounded up, as strided convolutions with TensorFlow's "same" padding do: 28 → 14 → 7 → 4.
"""

from torch import Tensor, nn

from bestiary.data.specs import ImageSpec
from bestiary.errors import DataError

_SMALLEST_SIDE = 4


class Centred(nn.Module):
    """2x − 1: pixels from [0, 1] on [−1, 1], where zero padding is the middle of the range; any shape."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return 2 * x - 1


def halvings(spec: ImageSpec) -> int:
    """How often the sides can be halved, rounding up, before the smaller has fewer than four pixels.

    It is 3 for sides of 28 and 32, and 4 for 64.

    Raises:
        DataError: a side has fewer than seven pixels.
    """
    times = 0
    while -(-min(spec.height, spec.width) // 2 ** (times + 1)) >= _SMALLEST_SIDE:
        times += 1
    if times == 0:
        raise DataError(
            f"image size: found {spec.height}x{spec.width}, the convolutional networks want sides of at least"
            " 7 pixels: choose another size for the folder, or network=mlp"
        )
    return times


def sizes(spec: ImageSpec, times: int) -> list[tuple[int, int]]:
    """(height, width) of the image and of what is left after each of `times` halvings, rounded up."""
    return [(-(-spec.height // 2**k), -(-spec.width // 2**k)) for k in range(times + 1)]
