"""Kernel distance: the unbiased squared maximum mean discrepancy, known as KID on Inception features."""

import torch
from torch import Tensor

from bestiary.errors import OptionError
from bestiary.metrics.features import Array, check_pair, protocol
from bestiary.metrics.results import Score


def kernel_distance(
    *,
    real: Array,
    fake: Array,
    subsets: int = 100,
    subset_size: int = 1000,
    generator: torch.Generator | None = None,
    embedding: str = "features",
) -> Score:
    """Unbiased squared maximum mean discrepancy with the cubic kernel k(x, y) = (xᵀy/d + 1)³.

        1/(m(m−1)) Σ_{i≠j} k(xᵢ, xⱼ) + 1/(m(m−1)) Σ_{i≠j} k(yᵢ, yⱼ) − 2/m² Σ_{ij} k(xᵢ, yⱼ)

    averaged over random subsets of m examples of each set. Its expectation does not depend on the sample
    sizes and is 0 for equal laws, so it can be slightly negative.

    The error joins the sample's part, 4 Var h(x)/n_real + 4 Var h(y)/n_fake with h(x) the mean of k(x, x′) −
    k(x, y) over the others in a subset, and the subsets' part, their variance over their number. (The
    plain deviation over subsets, which is usually printed, says nothing of either.)

    References: *Demystifying MMD GANs* (Bińkowski et al., 2018), arXiv 1801.01401.

    Arguments:
        real, fake: features (n, d).
        subsets: number of subsets.
        subset_size: m; lowered to the size of the smaller set.
        generator: draws the subsets; None for one of seed 0.
        embedding: what the features are, for the protocol's name.

    Raises:
        DataError: wrong shapes, different d, values that are not finite, or fewer than two examples.
        OptionError: fewer than 1 subset, or subsets of fewer than 2.
    """
    x, y = check_pair(real, fake)
    if subsets < 1 or subset_size < 2:
        raise OptionError(f"subsets: found {subsets} of {subset_size}, wanted at least 1 of 2 or more")
    generator = generator or torch.Generator().manual_seed(0)
    m = min(subset_size, len(x), len(y))
    values = torch.zeros(subsets, dtype=torch.float64)
    of_real, of_fake = _Witness(len(x)), _Witness(len(y))
    for s in range(subsets):
        i = torch.randperm(len(x), generator=generator)[:m]
        j = torch.randperm(len(y), generator=generator)[:m]
        a, b = x[i].double(), y[j].double()
        cross = _kernel(a, b)
        h_real = _others(a) - cross.mean(dim=1)
        h_fake = _others(b) - cross.mean(dim=0)
        values[s] = h_real.mean() + h_fake.mean()
        of_real.add(i, h_real)
        of_fake.add(j, h_fake)
    variance = 4 * (of_real.variance / len(x) + of_fake.variance / len(y))
    if m < max(len(x), len(y)):
        variance += values.var(correction=min(1, subsets - 1)) / subsets
    name = protocol("kernel", embedding, len(x), len(y), f"subsets={subsets}x{m}")
    return Score(values.mean().item(), variance.sqrt().item(), len(x), len(y), name)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1]).add_(1).pow_(3)


def _others(a: Tensor) -> Tensor:
    """Mean of k(x, x′) over the others x′ of the same subset, for each x."""
    kernel = _kernel(a, a)
    return (kernel.sum(dim=1) - kernel.diagonal()) / (len(a) - 1)


class _Witness:
    """Mean of h over the subsets that each example was in."""

    def __init__(self, n: int) -> None:
        self._sum = torch.zeros(n, dtype=torch.float64)
        self._count = torch.zeros(n, dtype=torch.float64)

    def add(self, indices: Tensor, values: Tensor) -> None:
        self._sum.index_add_(0, indices, values)
        self._count[indices] += 1

    @property
    def variance(self) -> Tensor:
        seen = self._count > 0
        return (self._sum[seen] / self._count[seen]).var()
