"""Disentanglement from codes and the factors behind them: mutual information gap, DCI, SAP.

Shapes: n examples, d codes (dimensions of the representation), K factors. The factors are known because the
data were drawn from them. All three want examples with factors drawn independently: rows of a data set that
is a full grid, chosen at random.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bestiary.config import check_count
from bestiary.errors import DataError, OptionError
from bestiary.metrics.features import Array, check_features, protocol
from bestiary.metrics.results import Score

# Rows of a prediction's training and test examples are 2 : 1, as the 10,000 and 5,000 of disentanglement_lib.
_TRAINING = 2 / 3


@dataclass(frozen=True)
class MutualInformationGap(Score):
    """Mean of the factors' gaps (`value`), from 0 to 1.

    Attributes:
        gaps: of each factor, (K,).
        information: mutual information of each code with each factor, nats, (d, K).
    """

    gaps: Tensor
    information: Tensor


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness, each a `Score` from 0 to 1.

    Attributes:
        disentanglement: whether a code tells of one factor only; without an error bar, which would take
            many fits.
        completeness: whether a factor is told by one code only; likewise without an error bar.
        informativeness: how well the factors are predicted for test examples; its error is that of the
            finite test examples.
        importance: of each code for predicting each factor, (d, K); columns sum to 1, or to 0 where the
            codes say nothing.
    """

    disentanglement: Score
    completeness: Score
    informativeness: Score
    importance: Tensor


@dataclass(frozen=True)
class SeparatedPredictability(Score):
    """Mean of the factors' gaps (`value`), from 0 to 1.

    Attributes:
        gaps: of each factor, (K,).
        predictability: how well each code alone predicts each factor, (d, K).
    """

    gaps: Tensor
    predictability: Tensor


def mig(
    *, codes: Array, factors: Array, bins: int = 20, representation: str = "codes"
) -> MutualInformationGap:
    r"""Mutual information gap: how much more the best code says of a factor than the second best.

    .. math::
        \frac{1}{K} \sum_k \frac{1}{H(v_k)} \left( I(z_{j(k)}; v_k) - \max_{j \ne j(k)} I(z_j; v_k) \right),
        \qquad j(k) = \arg\max_j I(z_j; v_k)

    with plug-in estimates from the joint histogram of a code, in bins of equal width from its least to its
    greatest value, and a factor. Neither the order nor the scale of the codes matters. The error is that of
    the finite examples to first order, for this choice of the two codes: too short where they are nearly
    equal by chance.

    References:
        *Isolating Sources of Disentanglement in Variational Autoencoders* (Chen et al., 2018), arXiv
        1802.04942, eq. 6.
        *Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations*
        (Locatello et al., 2019), arXiv 1811.12359: 20 bins of posterior means, 10,000 examples.

    Departures from Chen et al., as in Locatello et al.: they take the information in samples of q(z|x) with
    q(z) summed over the whole data set, not in histograms of means.

    Arguments:
        codes: (n, d): posterior means.
        factors: values of the factors, whole numbers, (n, K).
        bins: of each code.
        representation: what the codes are, for the protocol's name.

    Raises:
        DataError: wrong shapes or types, values that are not finite, or a factor of one value only.
        OptionError: fewer than two bins.
    """
    z, v = _check(codes, factors)
    check_count("bins", bins, least=2)
    least, greatest = (end.numpy() for end in z.aminmax(dim=0))
    edges = torch.from_numpy(np.linspace(least, greatest, bins + 1, axis=1))  # as numpy.histogram has them
    cells = torch.searchsorted(edges[:, 1:-1].contiguous(), z.T.contiguous(), right=True)  # (d, n)
    gaps, information = torch.empty(v.shape, dtype=torch.float64), []
    for k in range(v.shape[1]):
        surprise = -_log_masses(v[:, k])
        entropy = surprise.mean()
        told = torch.stack([_pointwise_information(cell, v[:, k]) for cell in cells], dim=1)
        gap = _best_over_second(told)
        # the mean is the gap, the deviation that of the ratio of two means
        gaps[:, k] = (gap + gap.mean() * (1 - surprise / entropy)) / entropy
        information.append(told.mean(dim=0))
    name = _name("mig", representation, z, v, f"bins={bins}")
    value, error = _mean(gaps)
    return MutualInformationGap(
        value, error, len(z), 0, name, gaps.mean(dim=0), torch.stack(information, dim=1)
    )


def dci(
    *,
    codes: Array,
    factors: Array,
    ordered: bool | Sequence[bool] = False,
    generator: torch.Generator | None = None,
    representation: str = "codes",
) -> DCI:
    r"""Disentanglement, completeness and informativeness, from predicting every factor by boosted trees.

    With R_jk the importance of code j for factor k,

    .. math::
        D = \sum_j \rho_j \left(1 - H_K(R_{j\cdot})\right), \qquad
        C = \sum_k \rho_k \left(1 - H_d(R_{\cdot k})\right)

    where H_b is the entropy to base b of a row or column made to sum to 1, and ρ its share of all of R.
    Informativeness is the accuracy of the predicted factors for test examples, and R² for ordered factors,
    in the mean over the factors. Trees care neither for the order nor for the scale of the codes.

    The first two thirds of the rows train, the rest test; 15,000 make the 10,000 and 5,000 of
    disentanglement_lib. Its classifiers fit one tree a value and stage, so that a factor of 32 values takes
    two minutes at that size and on one core; regression takes four seconds.

    References:
        *A Framework for the Quantitative Evaluation of Disentangled Representations* (Eastwood & Williams,
        2018), ICLR, §2: the scores; lasso or random forests, all factors as numbers, and the error of
        the prediction as informativeness.
        *Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations*
        (Locatello et al., 2019), arXiv 1811.12359: gradient boosted trees, all factors as classes, and
        accuracy as informativeness.

    Arguments:
        codes: (n, d): posterior means.
        factors: values of the factors, whole numbers, (n, K); rows in random order.
        ordered: which factors are predicted as numbers, (K,), or one answer for all.
        generator: of the trees, which break ties at random; None for one of seed 0.
        representation: what the codes are, for the protocol's name.

    Raises:
        DataError: wrong shapes or types, values that are not finite, fewer than two factors, or a factor of
            one value only among the training or the test examples.
        OptionError: another number of answers in `ordered` than factors.
    """
    # Imported only here because scikit-learn takes a second to import.
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    z, v = _check(codes, factors)
    if v.shape[1] < 2:
        raise DataError("factors: found 1, wanted at least 2: one factor cannot be entangled with another")
    regressed = _ordered(ordered, v.shape[1])
    generator = generator or torch.Generator().manual_seed(0)
    train, test = _split(v)
    importance = torch.empty(z.shape[1], v.shape[1], dtype=torch.float64)
    told = torch.empty(test.stop - test.start, v.shape[1], dtype=torch.float64)
    for k, as_number in enumerate(regressed):
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        kind: Any = GradientBoostingRegressor if as_number else GradientBoostingClassifier
        trees = kind(random_state=seed).fit(z[train].numpy(), v[train, k].numpy())
        importance[:, k] = torch.from_numpy(trees.feature_importances_)
        predicted = torch.from_numpy(trees.predict(z[test].numpy()))
        told[:, k] = _explained(predicted, v[test, k]) if as_number else (predicted == v[test, k]).double()
    settings = _settings(regressed, train)
    name = _name("dci", representation, z, v, "boosted trees", *settings)

    def score(part: str, value: float, error: float | None) -> Score:
        return Score(value, error, len(z), 0, name.replace("dci[", f"dci {part}[", 1))

    return DCI(
        disentanglement=score("disentanglement", _concentration(importance), None),
        completeness=score("completeness", _concentration(importance.T), None),
        informativeness=score("informativeness", *_mean(told)),
        importance=importance,
    )


def sap(
    *,
    codes: Array,
    factors: Array,
    ordered: bool | Sequence[bool] = False,
    representation: str = "codes",
) -> SeparatedPredictability:
    r"""Separated attribute predictability: how much better the best code predicts a factor than the second.

    .. math::
        \frac{1}{K} \sum_k ( S_{j(k) k} - \max_{j \ne j(k)} S_{jk} ), \quad j(k) = \arg\max_j S_{jk}

    with S_jk the accuracy for test examples of a linear support vector machine that is given code j alone,
    or the squared correlation of code j with an ordered factor. The first two thirds of the rows train, the
    rest test; 15,000 make the 10,000 and 5,000 of disentanglement_lib. The error is that of the finite test
    examples, for this choice of the two codes.

    Of a factor of many values a linear classifier of one number recognises few: with each of ten values
    equally often, the factor itself is recognised in 3 of 10 examples, so that a perfect representation
    scores about .2 unless the factor is `ordered`. The penalty of the classifier is for codes of the scale
    of a standard normal prior; R² does not care for the scale.

    References:
        *Variational Inference of Disentangled Latent Concepts from Unlabeled Observations* (Kumar et al.,
        2018), arXiv 1711.00848, §3: R² for continuous factors, a classifier for others.
        *Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations*
        (Locatello et al., 2019), arXiv 1811.12359: C = 0.01, classes weighted equally, and all factors as
        classes.

    Departures from Kumar et al., as in Locatello et al.: their classifier sets thresholds, and S is 0 for
    codes of a variance below .05.

    Arguments:
        codes: (n, d): posterior means.
        factors: values of the factors, whole numbers, (n, K); rows in random order.
        ordered: which factors are predicted as numbers, (K,), or one answer for all.
        representation: what the codes are, for the protocol's name.

    Raises:
        DataError: wrong shapes or types, values that are not finite, or a factor of one value only among the
            training or the test examples.
        OptionError: another number of answers in `ordered` than factors.
    """
    from sklearn.svm import LinearSVC

    z, v = _check(codes, factors)
    regressed = _ordered(ordered, v.shape[1])
    train, test = _split(v)
    gaps = torch.empty(test.stop - test.start, v.shape[1], dtype=torch.float64)
    predictability = []
    for k, as_number in enumerate(regressed):
        told = []
        for code in z.T:
            if as_number:
                told.append(_squared_correlation(code[test], v[test, k].double()))
                continue
            # the primal problem: of the same optimum as the dual, and faster with one number an example
            machine = LinearSVC(C=0.01, class_weight="balanced", dual=False)
            machine.fit(code[train, None].numpy(), v[train, k].numpy())
            predicted = torch.from_numpy(machine.predict(code[test, None].numpy()))
            told.append((predicted == v[test, k]).double())
        gaps[:, k] = _best_over_second(torch.stack(told, dim=1))
        predictability.append(torch.stack([of_code.mean() for of_code in told]))
    value, error = _mean(gaps)
    name = _name("sap", representation, z, v, *_settings(regressed, train))
    return SeparatedPredictability(
        value, error, len(z), 0, name, gaps.mean(dim=0), torch.stack(predictability, dim=1)
    )


def _check(codes: Array, factors: Array) -> tuple[Tensor, Tensor]:
    z = check_features("codes", codes).double()
    v = torch.as_tensor(factors).detach().cpu()
    if v.ndim != 2 or len(v) != len(z) or v.shape[1] == 0 or v.is_floating_point() or v.is_complex():
        raise DataError(
            f"factors: found {v.dtype} of shape {tuple(v.shape)}, wanted whole numbers of shape"
            f" ({len(z)}, K), one row for each row of codes"
        )
    # numbered from 0, so that the values may be any whole numbers; their order is kept
    v = torch.stack([torch.unique(factor, return_inverse=True)[1] for factor in v.T], dim=1)
    _check_variation(v, "these examples")
    return z, v


def _check_variation(v: Tensor, where: str) -> None:
    constant = (v == v[:1]).all(dim=0)
    if constant.any():
        k = int(constant.nonzero()[0])
        raise DataError(f"factors: found one value only of factor {k} in {where}, wanted at least two")


def _ordered(ordered: bool | Sequence[bool], k: int) -> tuple[bool, ...]:
    answers = (ordered,) * k if isinstance(ordered, bool) else tuple(ordered)
    if len(answers) != k:
        raise OptionError(f"ordered: found {len(answers)} answers, wanted one for each of the {k} factors")
    return answers


def _split(v: Tensor) -> tuple[slice, slice]:
    cut = round(_TRAINING * len(v))
    train, test = slice(0, cut), slice(cut, len(v))
    _check_variation(v[train], f"the {cut} training examples, which are the first")
    _check_variation(v[test], f"the {len(v) - cut} test examples, which are the last")
    return train, test


def _settings(regressed: tuple[bool, ...], train: slice) -> tuple[str, str]:
    numbers = ", ".join(str(k) for k, as_number in enumerate(regressed) if as_number)
    ordered = "all ordered" if all(regressed) else f"ordered {numbers}" if numbers else "all classes"
    return ordered, f"train={train.stop}"


def _name(metric: str, representation: str, z: Tensor, v: Tensor, *settings: str) -> str:
    shape = f"{z.shape[1]} codes of {v.shape[1]} factors"
    return protocol(metric, representation, len(z), len(z), shape, *settings)


def _log_masses(values: Tensor) -> Tensor:
    """log of the share of the examples that have an example's value, (n,)."""
    return (torch.bincount(values).double() / len(values)).log()[values]


def _pointwise_information(cells: Tensor, values: Tensor) -> Tensor:
    """log p(c, v)/(p(c) p(v)) of each example, nats, (n,); the mean is the mutual information."""
    joint = cells * (values.max() + 1) + values
    return _log_masses(joint) - _log_masses(cells) - _log_masses(values)


def _best_over_second(told: Tensor) -> Tensor:
    """The best code less the second best, (n,), of what each example adds to the mean of each, (n, d)."""
    means = told.mean(dim=0)
    if len(means) == 1:
        return told[:, 0]
    best, second = means.topk(2).indices
    return told[:, best] - told[:, second]


def _squared_correlation(x: Tensor, y: Tensor) -> Tensor:
    """What each example adds to r², to first order, (n,): the mean is r², the deviation that of its error."""
    if x.min() == x.max():
        return torch.zeros_like(x)
    a, b = ((s - s.mean()) / s.std(correction=0) for s in (x, y))
    r = (a * b).mean()
    return r**2 + 2 * r * (a * b - r * (a**2 + b**2) / 2)


def _explained(predicted: Tensor, values: Tensor) -> Tensor:
    """What each example adds to R² = 1 − Σ(y − ŷ)²/Σ(y − ȳ)², to first order, (n,)."""
    y = values.double()
    residual, total = (y - predicted).square(), (y - y.mean()).square()
    unexplained = residual.mean() / total.mean()
    return 1 - unexplained - (residual - unexplained * total) / total.mean()


def _concentration(importance: Tensor) -> float:
    """Mean over rows, weighed by their sums, of 1 − their entropy to the base of the number of columns."""
    whole = importance.sum()
    if whole == 0:
        return 0.0
    of_rows = importance.sum(dim=1, keepdim=True)
    shares = importance / of_rows.clamp_min(torch.finfo(importance.dtype).tiny)
    entropy = -torch.xlogy(shares, shares).sum(dim=1) / math.log(max(2, importance.shape[1]))
    return ((1 - entropy) * of_rows[:, 0] / whole).sum().item()


def _mean(told: Tensor) -> tuple[float, float]:
    """Mean over examples and factors (n, K), and its standard error from the finite examples."""
    of_examples = told.mean(dim=1)
    return told.mean().item(), (of_examples.std(correction=0) / math.sqrt(len(of_examples))).item()
