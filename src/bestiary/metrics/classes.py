"""What a classifier says of samples: which classes are there, and the Inception Score."""

import math
from dataclasses import dataclass

import torch

from bestiary.config import check_count
from bestiary.errors import OptionError
from bestiary.metrics.features import Array, check_probabilities, protocol
from bestiary.metrics.results import Score


@dataclass(frozen=True)
class ClassCoverage(Score):
    """Number of classes found (`value`) among the samples.

    Attributes:
        classes: K, the number of classes there are.
        shares: share of the samples that the classifier puts into each class.
        confidence: mean probability of the class that each sample is put into.
    """

    classes: int
    shares: tuple[float, ...]
    confidence: float


def class_coverage(
    *, probabilities: Array, minimum_share: float | None = None, embedding: str = "classifier"
) -> ClassCoverage:
    """How many classes hold at least `minimum_share` of the samples: 2 % of up to ten classes, less of more.

    The count is worth as much as the classifier: name its accuracy in `embedding`. It has no error bar; the
    deviation of a share p is √(p(1 − p)/n).

    Arguments:
        probabilities: (n, K), of the fake samples.
        minimum_share: share from which on a class counts as found; None for 0.2/K, at most .02.
        embedding: the classifier, for the protocol's name.

    Raises:
        DataError: wrong shape, or rows that are no probabilities.
        OptionError: a share that is not between 0 and 1.
    """
    p = check_probabilities(probabilities)
    if minimum_share is None:
        minimum_share = min(0.02, 0.2 / p.shape[1])
    if not 0 <= minimum_share <= 1:
        raise OptionError(f"minimum_share: found {minimum_share}, wanted a number from 0 to 1")
    confidence, labels = p.max(dim=1)
    shares = torch.bincount(labels, minlength=p.shape[1]).double() / len(p)
    return ClassCoverage(
        value=float((shares >= minimum_share).sum()),
        error=None,
        n_real=0,
        n_fake=len(p),
        protocol=protocol("classes", embedding, 0, len(p), f"share≥{minimum_share:g}"),
        classes=p.shape[1],
        shares=tuple(shares.tolist()),
        confidence=confidence.mean().item(),
    )


def inception_score(*, probabilities: Array, splits: int = 10, embedding: str = "classifier") -> Score:
    """exp(E_x KL(p(y|x) ‖ p(y))): confident samples of many classes score high, at most K.

    Computed on `splits` consecutive parts, as published: shuffle samples that are sorted by class. The
    value is the mean over the parts; the error is their standard deviation over √splits, None for one part.

    References: *Improved Techniques for Training GANs* (Salimans et al., 2016), arXiv 1606.03498.

    Arguments:
        probabilities: (n, K), of the fake samples.
        splits: number of parts; each has its own p(y), so the value depends on n/splits.
        embedding: the classifier, for the protocol's name. Only Inception's own 1,000 classes give the
            numbers of the literature.

    Raises:
        DataError: wrong shape, or rows that are no probabilities.
        OptionError: less than one split, or fewer than two samples in each.
    """
    p = check_probabilities(probabilities)
    check_count("splits", splits, least=1)
    if splits > len(p) / 2:
        raise OptionError(f"splits: found {splits} of {len(p)} samples, wanted 1 to {len(p) // 2}")
    scores = torch.zeros(splits, dtype=torch.float64)
    for s in range(splits):
        part = p[s * len(p) // splits : (s + 1) * len(p) // splits]
        marginal = part.mean(dim=0)
        divergence = (torch.xlogy(part, part) - torch.xlogy(part, marginal)).sum(dim=1)
        scores[s] = divergence.mean().exp()
    error = (scores.std() / math.sqrt(splits)).item() if splits > 1 else None
    name = protocol("inception-score", embedding, 0, len(p), f"splits={splits}")
    return Score(scores.mean().item(), error, 0, len(p), name)
