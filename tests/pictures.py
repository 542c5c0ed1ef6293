"""Folders of small pictures for the tests of the data."""

import numpy as np
from PIL import Image


def noise(seed, *shape):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def fill(folder, n=20, shape=(8, 8, 3), first=0):
    folder.mkdir(exist_ok=True, parents=True)
    for i in range(first, first + n):
        noise(i, *shape).save(folder / f"{i:03}.png")
