"""Disentanglement from codes of examples that share a factor: the metrics of β-VAE and of FactorVAE.

Shapes: n examples, d codes (dimensions of the representation), K factors. Both metrics draw the factors
themselves, many examples for each of thousands of votes: where the representation of every combination of
factors fits into memory, compute it once and let `represent` look it up.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.config import check_count
from bestiary.errors import DataError, OptionError
from bestiary.metrics.features import Array, check_features, protocol
from bestiary.metrics.results import Score

Represent = Callable[[Tensor], Array]

_ROWS = 4096  # examples that are asked for at a time


@dataclass(frozen=True)
class FactorVAEMetric(Score):
    """Accuracy of the majority vote (`value`), from 0 to 1.

    Attributes:
        votes: of the training votes, how often a code varied least when a factor was fixed, (d, K).
        active: which codes vary at all, bool, (d,); the others have no votes.
    """

    votes: Tensor
    active: Tensor


def beta_vae_metric(
    *,
    represent: Represent,
    sizes: Sequence[int],
    batch: int = 64,
    train: int = 10_000,
    test: int = 5_000,
    generator: torch.Generator | None = None,
    representation: str = "codes",
) -> Score:
    r"""The β-VAE metric: which factor do pairs of examples share? The accuracy of a linear classifier.

    For each vote a factor k is drawn, and B pairs of examples that share a value of it and are independent
    otherwise. The classifier, logistic regression, is to tell k from

    .. math::
        \frac{1}{B} \sum_{b=1}^{B} |z(x_{b,1}) - z(x_{b,2})|.

    Guessing gives 1/K, not 0: that is what constant codes score. The regression's penalty (C = 1) is for
    codes of the scale of a standard normal prior. The error is the binomial one of the test votes.

    References:
        *beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework* (Higgins et al.,
        2017), ICLR, §3, Algorithm 1.
        *Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations*
        (Locatello et al., 2019), arXiv 1811.12359: the numbers of votes and examples, logistic regression.

    Departures: the regression is one of all factors at once (softmax) as in Higgins et al., who train it by
    Adagrad without a penalty; scikit-learn's of the time of Locatello et al. was one for each factor.

    Arguments:
        represent: codes (n, d) of examples with the given values of the factors (n, K), int64; called with
            at most 4,096 rows, or two batches if these are more. Where an example has more to it than its
            factors, it may be drawn anew each time.
        sizes: the number of values of each factor, (K,); values count from 0.
        batch: B, pairs that are averaged for a vote.
        train, test: numbers of votes.
        generator: of factors and their values; None for one of seed 0.
        representation: what the codes are, for the protocol's name.

    Raises:
        DataError: codes of the wrong shape or that are not finite.
        OptionError: fewer than two factors, a factor of fewer than two values, or no votes or examples.
    """
    # Imported only here because scikit-learn takes a second to import.
    from sklearn.linear_model import LogisticRegression

    _check_sizes(sizes)
    _check_counts(1, batch=batch, train=train, test=test)
    generator = generator or torch.Generator().manual_seed(0)

    def votes(n: int) -> tuple[Tensor, Tensor]:
        fixed, differences = [], []
        for size in _portions(n, 2 * batch):
            k = torch.randint(len(sizes), (size,), generator=generator)
            pairs = _draw(sizes, (size, batch, 2), generator)  # (votes, B, 2, K)
            own = k[:, None].expand(size, batch)[..., None]
            pairs[:, :, 1].scatter_(2, own, pairs[:, :, 0].gather(2, own))
            z = _represented(represent, pairs)
            differences.append((z[:, :, 0] - z[:, :, 1]).abs().mean(dim=1))
            fixed.append(k)
        return torch.cat(fixed), torch.cat(differences)

    k, difference = votes(train)
    if len(k.unique()) < 2:
        raise OptionError(f"train: found {train} votes, all for one factor, wanted more")
    classifier = LogisticRegression(max_iter=10_000).fit(difference.numpy(), k.numpy())
    k, difference = votes(test)
    right = classifier.score(difference.numpy(), k.numpy())
    name = _name("beta-vae metric", representation, sizes, batch, train, test)
    return Score(right, _binomial(right, test), test, 0, name)


def factor_vae_metric(
    *,
    represent: Represent,
    sizes: Sequence[int],
    batch: int = 64,
    train: int = 10_000,
    test: int = 5_000,
    examples: int = 10_000,
    threshold: float = 0.05,
    generator: torch.Generator | None = None,
    representation: str = "codes",
) -> FactorVAEMetric:
    r"""The FactorVAE metric: which code stands still when a factor does? The accuracy of a majority vote.

    For each vote a factor k is drawn and B examples that share one value of it and are independent otherwise.
    The vote goes to the code of the least relative variance,

    .. math::
        j = \arg\min_j \mathrm{Var}_b(z_j(x_b)) / \mathrm{Var}(z_j),

    and each code stands for the factor that most of its training votes came from. The value is the share of
    the test votes whose code stands for their factor; 0 where no code is active. Neither the order nor the
    scale of the active codes matters. The error is the binomial one of the test votes.

    References:
        *Disentangling by Factorising* (Kim & Mnih, 2018), arXiv 1802.05983, §4, Figure 2.
        *Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations*
        (Locatello et al., 2019), arXiv 1811.12359: the numbers of votes and examples, the threshold.

    Departures from Kim & Mnih, as in Locatello et al.: they score the votes that made the classifier, not
    others, and leave out codes whose posterior has collapsed to the prior, not those whose mean has a small
    deviation. Departure from both: constant codes are left out whatever the threshold.

    Arguments:
        represent: codes (n, d) of examples with the given values of the factors (n, K), int64; called with
            at most 4,096 rows, or one batch if that is more. Where an example has more to it than its
            factors, it may be drawn anew each time.
        sizes: the number of values of each factor, (K,); values count from 0.
        batch: B, examples of a vote.
        train, test: numbers of votes.
        examples: number of examples that Var(z_j) is estimated from.
        threshold: codes of a smaller deviation are left out; .05 is for a prior of deviation 1.
        generator: of factors and their values; None for one of seed 0.
        representation: what the codes are, for the protocol's name.

    Raises:
        DataError: codes of the wrong shape or that are not finite.
        OptionError: fewer than two factors, a factor of fewer than two values, no votes, fewer than two
            examples, or a negative threshold.
    """
    _check_sizes(sizes)
    _check_counts(1, train=train, test=test)
    _check_counts(2, batch=batch, examples=examples)
    if not threshold >= 0:
        raise OptionError(f"threshold: found {threshold}, wanted a number ≥ 0")
    generator = generator or torch.Generator().manual_seed(0)
    parts = [_represented(represent, _draw(sizes, (n,), generator)) for n in _portions(examples, 1)]
    variance = torch.cat(parts).var(dim=0)
    active = (variance > 0) & (variance.sqrt() >= threshold)
    settings = (f"examples={examples}", f"deviation≥{threshold:g}")
    name = _name("factor-vae metric", representation, sizes, batch, train, test, *settings)
    table = torch.zeros(len(variance), len(sizes), dtype=torch.int64)
    if not active.any():
        return FactorVAEMetric(0.0, None, test, 0, name, table, active)

    def votes(n: int) -> tuple[Tensor, Tensor]:
        fixed, least = [], []
        for size in _portions(n, batch):
            k = torch.randint(len(sizes), (size,), generator=generator)
            drawn = _draw(sizes, (size, batch), generator)  # (votes, B, K)
            own = k[:, None].expand(size, batch)[..., None]
            drawn.scatter_(2, own, drawn[:, :1].gather(2, own[:, :1]).expand(own.shape))
            relative = _represented(represent, drawn).var(dim=1) / variance
            least.append(relative.where(active, math.inf).argmin(dim=1))
            fixed.append(k)
        return torch.cat(fixed), torch.cat(least)

    k, j = votes(train)
    table += torch.bincount(j * len(sizes) + k, minlength=table.numel()).view_as(table)
    stands_for = table.argmax(dim=1)
    k, j = votes(test)
    right = (stands_for[j] == k).double().mean().item()
    return FactorVAEMetric(right, _binomial(right, test), test, 0, name, table, active)


def _check_sizes(sizes: Sequence[int]) -> None:
    if len(sizes) < 2 or min(sizes) < 2:
        found = ", ".join(map(str, sizes)) or "none"
        raise OptionError(f"sizes: found {found}, wanted at least two factors of at least two values each")


def _check_counts(least: int, **counts: int) -> None:
    for name, count in counts.items():
        check_count(name, count, least=least)


def _draw(sizes: Sequence[int], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent factors, each uniform on its values, (*shape, K), int64."""
    return torch.stack([torch.randint(size, shape, generator=generator) for size in sizes], dim=-1)


def _portions(votes: int, rows: int) -> list[int]:
    """Numbers of votes at a time, `rows` examples each."""
    most = max(1, _ROWS // rows)
    return [most] * (votes // most) + [votes % most] * (votes % most > 0)


def _represented(represent: Represent, values: Tensor) -> Tensor:
    """Codes (*, d), float64, of factors (*, K)."""
    rows = values.flatten(end_dim=-2)
    z = check_features("represent(values)", represent(rows), minimum=1)
    if len(z) != len(rows):
        raise DataError(f"represent(values): found {len(z)} rows, wanted {len(rows)}, one for each of values")
    return z.double().view(*values.shape[:-1], -1)


def _name(
    metric: str, representation: str, sizes: Sequence[int], batch: int, train: int, test: int, *more: str
) -> str:
    factors = "×".join(map(str, sizes)) + " factors"
    return protocol(metric, representation, test, test, factors, f"batch={batch}", f"train={train}", *more)


def _binomial(share: float, n: int) -> float:
    return math.sqrt(share * (1 - share) / n)
