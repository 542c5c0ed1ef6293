"""Seeds: every random draw comes from a generator or a seed that the caller can set."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

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
