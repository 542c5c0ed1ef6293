"""Stacked MNIST: colour images of three digits, whose 1,000 modes are known and about equally heavy.

Nothing is stored but which three images make up an example: a batch is composed from its indices.
"""

from typing import Annotated

import torch
from torch import Tensor

from bestiary.config import Ge
from bestiary.data.idx import fashion_mnist, mnist
from bestiary.data.load import load_data
from bestiary.data.specs import ImageSpec
from bestiary.data.splits import Batch, Data, Split
from bestiary.errors import DataError
from bestiary.randomness import derive_seed

HELD_OUT = 26_000  # as many as the papers score
_PREFIX = "stacked-"
_SEED = 0x737461636B  # a namespace of its own


class StackedSplit(Split):
    """Colour images whose red, green and blue are three images of another split.

    Attributes:
        labels: K²·red + K·green + blue of the three labels, shape (N,).

    Arguments:
        singles: images of one channel with labels 0 … K−1.
        members: which of them make up each example, int64, shape (N, 3).
        classes: K.

    Raises:
        DataError: single images without labels.
    """

    def __init__(self, singles: Split, members: Tensor, *, classes: int) -> None:
        if singles.labels is None:
            raise DataError(
                "singles: found images without labels, wanted labels 0 … K−1: they name the modes"
            )
        self.labels = singles.labels[members] @ torch.tensor([classes**2, classes, 1])
        self._singles, self._members = singles, members

    @property
    def endless(self) -> bool:
        """False: there are as many examples as rows of members."""
        return False

    def __len__(self) -> int:
        return len(self._members)

    def take(self, indices: Tensor, *, generator: torch.Generator | None = None) -> Batch:
        """See `Split.take`."""
        chosen = self._members[indices]
        singles = self._singles.take(chosen.flatten(), generator=generator)
        return Batch(singles.x.unflatten(0, chosen.shape).squeeze(2))


def stacked_mnist(
    *,
    path: str | None = None,
    size: Annotated[int, Ge(1)] = 128_000,
    seed: Annotated[int, Ge(0)] = 0,
) -> Data:
    """Three random MNIST digits as the channels of a 28×28 colour image: 1,000 modes.

    The training images are stacks of training digits, and so on: no digit is in two splits. Validation and
    test are 26,000 stacks each. The mode of a stack is its three labels, 100·red + 10·green + blue, in
    `labels`; `singles_of` gives the digits, for the classifier that `stacked_mode_coverage` asks.

    References: *Unrolled Generative Adversarial Networks* (Metz et al., 2017), arXiv:1611.02163, §3.3;
    128,000 training images and 26,000 samples as in PacGAN (Lin et al., 2018), arXiv:1712.04086.

    Arguments:
        path: folder with the four IDX files of MNIST, plain or `.gz`; none looks where they usually are.
        size: number of training stacks.
        seed: of which digits are stacked.
    """
    return _stacked(mnist(path=path), size, seed)


def stacked_fashion_mnist(
    *,
    path: str | None = None,
    size: Annotated[int, Ge(1)] = 128_000,
    seed: Annotated[int, Ge(0)] = 0,
) -> Data:
    """Three random Fashion-MNIST images as the channels of a 28×28 colour image: 1,000 modes.

    As `stacked-mnist`, of clothes; their classifier errs more often, so score real stacks beside samples.

    Arguments:
        path: folder with the four IDX files of Fashion-MNIST, plain or `.gz`; none looks where they usually
            are.
        size: number of training stacks.
        seed: of which images are stacked.
    """
    return _stacked(fashion_mnist(path=path), size, seed)


def singles_of(data: Data) -> Data:
    """The data set of the single images that a stacked one is made of, with their labels and classes.

    Raises:
        DataError: data that are not stacked.
    """
    if not data.source.startswith(_PREFIX):
        raise DataError(f"data: found {data.name}, wanted stacked-mnist or stacked-fashion-mnist")
    return load_data(data.source.removeprefix(_PREFIX), path=data.options["path"])


def _stacked(singles: Data, size: int, seed: int) -> Data:
    assert singles.classes is not None
    assert isinstance(singles.spec, ImageSpec)
    classes = len(singles.classes)

    def split(part: int, of: Split, n: int) -> StackedSplit:
        generator = torch.Generator().manual_seed(derive_seed(_SEED, seed, part))
        members = torch.randint(len(of), (n, 3), generator=generator)
        return StackedSplit(of, members, classes=classes)

    return Data(
        _PREFIX + singles.name,
        ImageSpec(3, singles.spec.height, singles.spec.width, levels=singles.spec.levels),
        split(0, singles.train, size),
        split(1, singles.validation, HELD_OUT),
        split(2, singles.test, HELD_OUT),
        fingerprint=singles.fingerprint,
    )
