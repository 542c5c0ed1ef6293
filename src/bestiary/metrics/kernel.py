"""Kernel distance: the unbiased squared maximum mean discrepancy, known as KID on Inception features."""

import torch
from torch import Tensor

from bestiary.errors import OptionError
from bestiary.metrics.features import Array, check_pair, protocol
from bestiary.metrics.results import Score
from bestiary.metrics.statistics import gram


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

    The error bar joins two parts. With the kernel's first-order term h(x) = E k(x, x′) − E k(x, y) and its
    doubly centred rest k̃, both estimated within the subsets, the whole sets' part is

        4 Var h(x)/n + 4 Var h(y)/m + 2 E k̃(x, x′)²/n² + 2 E k̃(y, y′)²/m² + 4 E k̃(x, y)²/(nm),

    right for equal laws too, where only the rest remains; the draw's part is the variance of the subsets'
    values over their number. (Their plain deviation, which is usually printed, says nothing of either.)

    References: *Demystifying MMD GANs* (Bińkowski et al., 2018), arXiv 1801.01401; the variance is that of
    a U-statistic (*A Class of Statistics with Asymptotically Normal Distribution*, Hoeffding, 1948).

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
    m, n_real, n_fake = min(subset_size, len(x), len(y)), len(x), len(y)
    values, variances = [], []
    for _ in range(subsets):
        a = x[torch.randperm(n_real, generator=generator)[:m]].double()
        b = y[torch.randperm(n_fake, generator=generator)[:m]].double()
        value, variance = _of_subset(a, b, n_real, n_fake)
        values.append(value)
        variances.append(variance)
    value, of_sets = torch.stack(values).mean(), torch.stack(variances).mean(dim=0)
    variance = of_sets[:2].clamp_min(0).sum() + of_sets[2]
    name = protocol("kernel", embedding, n_real, n_fake, f"subsets={subsets}x{m}")
    if subsets == 1 and m < min(n_real, n_fake):  # how far it is from that of other subsets, one cannot tell
        return Score(value.item(), None, n_real, n_fake, name)
    if m < max(n_real, n_fake):
        variance += torch.stack(values).var(correction=min(1, subsets - 1)) / subsets
    return Score(value.item(), variance.sqrt().item(), n_real, n_fake, name)


def _of_subset(a: Tensor, b: Tensor, n_real: int, n_fake: int) -> tuple[Tensor, Tensor]:
    """Value of one subset (m, d) of each set; three parts of the variance of the whole sets' value, (3,).

    They are the first-order parts of real and fake, and the rest.
    """
    m = len(a)
    of_real, of_fake, cross = (_kernel(p, a.shape[1]) for p in (gram(a.T), gram(b.T), a @ b.T))
    real_mean, fake_mean = _mean_of_others(of_real), _mean_of_others(of_fake)
    h_real, h_fake = real_mean - cross.mean(dim=1), fake_mean - cross.mean(dim=0)
    real_rest = _rest(of_real, real_mean, real_mean).fill_diagonal_(0).square_().sum() / (m * (m - 1))
    fake_rest = _rest(of_fake, fake_mean, fake_mean).fill_diagonal_(0).square_().sum() / (m * (m - 1))
    cross_rest = _rest(cross, cross.mean(dim=1), cross.mean(dim=0)).square_().mean()
    # What the mean over the others of a subset adds to the deviation of h is taken away again.
    real_part = 4 / n_real * (h_real.var() - (real_rest + cross_rest) / m)
    fake_part = 4 / n_fake * (h_fake.var() - (fake_rest + cross_rest) / m)
    rest = 2 * real_rest / n_real**2 + 2 * fake_rest / n_fake**2 + 4 * cross_rest / (n_real * n_fake)
    return h_real.mean() + h_fake.mean(), torch.stack([real_part, fake_part, rest])


def _kernel(products: Tensor, d: int) -> Tensor:
    return products.div_(d).add_(1).pow_(3)


def _mean_of_others(kernel: Tensor) -> Tensor:
    """Mean of k(x, x′) over the others x′ of the same subset, for each x."""
    return (kernel.sum(dim=1) - kernel.diagonal()) / (len(kernel) - 1)


def _rest(kernel: Tensor, of_rows: Tensor, of_columns: Tensor) -> Tensor:
    """The kernel less its means over rows and over columns."""
    return (kernel - of_rows[:, None]).sub_(of_columns).add_(of_rows.mean())
