"""Does a model replay its training set? Nearest neighbours in train against the same in held-out data."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bestiary.metrics.distances import MEMORY
from bestiary.metrics.features import Array, protocol
from bestiary.metrics.neighbours import nearest_in_parts
from bestiary.metrics.results import Score


@dataclass(frozen=True)
class Memorisation(Score):
    """Excess of samples whose nearest neighbour is a training example: 0 by chance, 1 for all of them.

    Attributes:
        p_value: one-sided, of the hypothesis that train and held-out data are alike to the samples.
    """

    p_value: float


def memorisation(
    *,
    train: Array | Iterator[Array],
    held_out: Array,
    fake: Array,
    embedding: str = "features",
    memory: int = MEMORY,
) -> Memorisation:
    """Are samples nearer to the training data than to data of the same law that the model never saw?

    Put training and held-out examples together and look for each sample's nearest neighbour. A model that
    has learnt the law cannot tell the two apart, so the neighbour is a training example with probability
    p₀ = n_train/(n_train + n_held_out), however good or blurred the samples are. With share s,

        value = (s − p₀)/(1 − p₀).

    The p-value is that of the permutation test that deals the names "train" and "held out" anew, in its
    normal approximation: the samples that share one neighbour move together. (Comparing the *distances* of
    samples with those of held-out data to train instead would call every blurred model a copyist, because
    blurred images are near everything.)

    Arguments:
        train, held_out: features (n, d) of the same law: the split the model was trained on, which may come
            a part at a time, and another.
        fake: features (m, d) of samples.
        embedding: what the features are, for the protocol's name.
        memory: bytes to keep to, as in `nearest_neighbours`.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or empty sets.
    """
    parts = train if isinstance(train, Iterator) else iter([train])
    to_train, in_train, n_train = nearest_in_parts(queries=fake, parts=parts, memory=memory)
    to_held_out, in_held_out, n_held_out = nearest_in_parts(
        queries=fake, parts=iter([held_out]), memory=memory
    )
    m, n = len(to_train), n_train + n_held_out
    nearer = ((to_held_out - to_train).sign() + 1) / 2  # 1 train, 0 held out, ½ a tie
    train_counts = torch.bincount(in_train, weights=nearer, minlength=n_train)
    held_out_counts = torch.bincount(in_held_out, weights=1 - nearer, minlength=n_held_out)
    counts = torch.cat([train_counts, held_out_counts])  # samples whose nearest neighbour each example is
    share, chance = nearer.mean().item(), n_train / n
    permuted = n_train * n_held_out / (n * (n - 1)) * (counts - counts.mean()).square().sum().item() / m**2
    z = (share - chance) / math.sqrt(permuted) if permuted else 0.0
    residual = torch.cat([train_counts * (1 - share), held_out_counts * share])
    # Where all samples share one neighbour the residuals vanish, and only the permutations know better.
    deviation = max(residual.norm().item() / m, math.sqrt(permuted))
    return Memorisation(
        value=(share - chance) / (1 - chance),
        error=deviation / (1 - chance),
        n_real=n,
        n_fake=m,
        protocol=protocol("memorisation", embedding, n_train, m, f"n_held_out={n_held_out}"),
        p_value=math.erfc(z / math.sqrt(2)) / 2,
    )
