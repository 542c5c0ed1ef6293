"""Seeds: every random draw comes from a generator or a seed that the caller can set."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from bestiary.config import check_seed


def derive_seed(*parts: int) -> int:
    """A 63-bit seed from whole numbers, so that nothing random has to be stored to resume."""
    # the number of parts goes in because SeedSequence ignores trailing zeros
    return int(np.random.SeedSequence([len(parts), *parts]).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def forked_randomness(seed: int) -> Iterator[None]:
    """Seed torch's global state for the block alone: initialisation and dropout use no other."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(check_seed(seed))
        yield


# A seed on the processor serves a model on any device: numbers are drawn where the generator is, always in
# the default type, so that they are the same for every device and precision.


def normal_like(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers, of the shape, type and device of `like`."""
    return torch.randn(like.shape, generator=generator, device=_place(like, generator)).to(like)


def uniform_like(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Numbers uniform on [0, 1), of the shape, type and device of `like`."""
    return torch.rand(like.shape, generator=generator, device=_place(like, generator)).to(like)


def choose(weights: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """`n` indices in proportion to weights (K,), with replacement, int64, (n,), on their device."""
    weights_there = weights.to(_place(weights, generator))
    return torch.multinomial(weights_there, n, replacement=True, generator=generator).to(weights.device)


def _place(like: Tensor, generator: torch.Generator | None) -> torch.device:
    return like.device if generator is None else generator.device
