"""Mode coverage where the modes are known: mixtures with known centres, and stacks of classified images."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor

from bestiary.config import check_count
from bestiary.errors import DataError, OptionError
from bestiary.metrics.embeddings.base import ClassifierEmbedding, Images
from bestiary.metrics.features import Array, check_features, check_probabilities, protocol
from bestiary.metrics.neighbours import nearest_neighbours
from bestiary.metrics.results import Score

# Mass of a Gaussian in the plane beyond three deviations: what a perfect model loses at "3σ".
_BEYOND = math.exp(-4.5)


@dataclass(frozen=True)
class ModeCoverage(Score):
    """Number of modes found (`value`) among n samples: those that at least one sample of quality is in.

    The error of the count is its jackknife, √(f (1 − f/n)(n − 1)/n) with f the modes that a single sample
    was found in; it errs on the long side. With q̂ the histogram of the samples of quality over K modes and
    p = 1/K, a perfect sampler's divergences are not 0 but about (K − 1)/(2n).

    Attributes:
        modes: K, the number of modes there are.
        counts: samples of quality in each mode.
        quality: share of the samples that are of quality, with its binomial error.
        forward_kl: KL(p ‖ q̂), nats; infinite where a mode is missed.
        reverse_kl: KL(q̂ ‖ p), nats, at most log K: the "KL" of the stacked-MNIST tables and the "reverse KL"
            of PacGAN. Both divergences are NaN where no sample is of quality.
    """

    modes: int
    counts: tuple[int, ...]
    quality: Score
    forward_kl: Score
    reverse_kl: Score


def mode_coverage(
    *, fake: Array, centres: Array, sigma: float, dimensions: int | None = None, embedding: str = "points"
) -> ModeCoverage:
    """Which modes of a mixture of equally heavy round Gaussians are found, and by what share of the samples.

    A sample belongs to its nearest centre c, and is of quality where ‖x − c‖ < r σ with

        r² = the 1 − e^(−9/2) quantile of χ² with k degrees of freedom, k = `dimensions`.

    In the plane (k = 2) this is r = 3, the papers' "within 3σ". It is the ball that holds the same mass
    of the true Gaussian in any dimension, so a perfect model always scores 98.89 %, never 100 %. A radius
    itself cannot be carried over: of the 700-dimensional modes of `mixture-1200d`, a true sample lies
    √700 = 26.5 σ from its centre, so that the published "within 10σ" would call every sample of a perfect
    model bad (the chance of one good sample is 10^−167). There r = 28.08: 1.06 σ per dimension. The 500
    coordinates that do not vary within a mode count too, in the same unit σ, as in PacGAN's evaluation. Like
    the papers' disc the ball has no inner edge: who only draws the centres is of quality.

    References: *VEEGAN* (Srivastava et al., 2017), arXiv 1705.07761, §4.1; *PacGAN* (Lin et al., 2018), arXiv
    1712.04086, §4.1, for the divergences over the samples of quality.

    Arguments:
        fake: samples (n, d); the papers take 2,500.
        centres: means of the modes, (K, d): `ring_centres()`, `grid_centres()`, `mixture_1200d_centres()`.
        sigma: deviation of each mode in each of its directions: .02 for `ring`, .05 for `grid`, 1 for
            `mixture-1200d`.
        dimensions: k, directions that a mode extends in: 700 for `mixture-1200d`; None for all d.
        embedding: what the samples are, for the protocol's name.

    Raises:
        DataError: wrong shapes, different d, or values that are not finite.
        OptionError: a sigma ≤ 0, or dimensions beyond d.
    """
    means = check_features("centres", centres, minimum=1)
    x = check_features("fake", fake, minimum=1)
    if x.shape[1] != means.shape[1]:
        raise DataError(f"fake: found points of R^{x.shape[1]}, wanted R^{means.shape[1]} as the centres")
    k = means.shape[1] if dimensions is None else dimensions
    check_count("dimensions", k, least=1)
    if k > means.shape[1]:
        raise OptionError(f"dimensions: found {k}, wanted 1 to {means.shape[1]}")
    if not 0 < sigma < math.inf:
        raise OptionError(f"sigma: found {sigma}, wanted a number > 0")
    radius = math.sqrt(chi2.isf(_BEYOND, k))
    distances, nearest = nearest_neighbours(queries=x, references=means)
    good = nearest[distances < radius * sigma]
    counts = torch.bincount(good, minlength=len(means))
    within = f"within {radius:.4g}σ" + ("" if k == 2 else f" (3σ's mass, {k} dimensions)")
    return _coverage(counts, len(x), protocol("modes", embedding, 0, len(x), f"{len(means)} centres", within))


def stacked_mode_coverage(*, probabilities: Array, embedding: str = "classifier") -> ModeCoverage:
    """Which of the K³ modes of stacked images are found: K = 10 classes in each channel make 1,000.

    The mode of a sample is the most likely class of its red, its green and its blue channel; every sample is
    of quality. The count is worth as much as the classifier, whose accuracy belongs in `embedding`, and its
    mistakes spread over modes: score real stacks beside samples.

    References: *Unrolled Generative Adversarial Networks* (Metz et al., 2017), arXiv 1611.02163, §3.3;
    26,000 samples as in VEEGAN and PacGAN, whose "KL" is `reverse_kl`, .0192 for a perfect sampler.

    Arguments:
        probabilities: (n, 3, K), of the fake samples: `channel_probabilities`.
        embedding: the classifier, for the protocol's name.

    Raises:
        DataError: wrong shape, or rows that are no probabilities.
    """
    p = torch.as_tensor(probabilities)
    if p.ndim != 3 or p.shape[1] != 3:
        raise DataError(f"probabilities: found shape {tuple(p.shape)}, wanted (n, 3, K)")
    n, channels, classes = p.shape
    labels = check_probabilities(p.flatten(0, 1)).argmax(dim=1).view(n, channels)
    modes = labels @ torch.tensor([classes**2, classes, 1])
    counts = torch.bincount(modes, minlength=classes**3)
    return _coverage(counts, n, protocol("modes", embedding, 0, n, f"{classes}³ stacked classes"))


def channel_probabilities(images: Images, classifier: ClassifierEmbedding) -> Tensor:
    """What a classifier of single images says of each channel of stacked ones, (n, 3, K), float64.

    Arguments:
        images: float in [0, 1], shape (n, 3, H, W), or an iterable of such batches.
        classifier: of the single images: `embedding("classifier", data=singles_of(data))`.

    Raises:
        DataError: images of another shape, type or range, or none at all.

    Example:
        >>> data = load_data("stacked-mnist")
        >>> classifier = embedding("classifier", data=singles_of(data))
        >>> p = channel_probabilities((b.x for b in data.test.batches(500)), classifier)
        >>> stacked_mode_coverage(probabilities=p, embedding=classifier.protocol).value
        1000.0
    """
    batches = (images,) if isinstance(images, Tensor | np.ndarray) else images
    singles = classifier.probabilities(map(_channels, batches))
    return singles.view(-1, 3, singles.shape[1])


def _channels(images: Array) -> Tensor:
    x = torch.as_tensor(images)
    if x.ndim != 4 or x.shape[1] != 3:
        raise DataError(f"images: found shape {tuple(x.shape)}, wanted (n, 3, H, W)")
    return x.flatten(0, 1)[:, None]


def _coverage(counts: Tensor, n: int, name: str) -> ModeCoverage:
    good = int(counts.sum())
    single = int((counts == 1).sum())
    share = good / n
    return ModeCoverage(
        value=float((counts > 0).sum()),
        error=math.sqrt(single * (1 - single / n) * (n - 1) / n),
        n_real=0,
        n_fake=n,
        protocol=name,
        modes=len(counts),
        counts=tuple(counts.tolist()),
        quality=Score(share, math.sqrt(share * (1 - share) / n), 0, n, name),
        forward_kl=_divergence(counts, good, n, name, forward=True),
        reverse_kl=_divergence(counts, good, n, name, forward=False),
    )


def _divergence(counts: Tensor, good: int, n: int, name: str, *, forward: bool) -> Score:
    """A divergence between the histogram and equal masses, with the error of its second-order expansion."""
    if good == 0:
        return Score(math.nan, None, 0, n, name)
    q = counts[counts > 0].double() / good
    log_ratio = torch.log(q * len(counts))
    if not forward:
        value = (q * log_ratio).sum().item()
        variance = (q * (log_ratio - value).square()).sum().item()
    elif len(q) < len(counts):
        return Score(math.inf, None, 0, n, name)
    else:
        value = -log_ratio.mean().item()
        variance = (1 / q).mean().item() / len(q) - 1
    # At equal masses the first-order term is 0, and its estimate twice the second-order one.
    curvature = (len(q) - 1) / (2 * good**2)
    return Score(value, math.sqrt(max(variance / good - curvature, curvature)), 0, n, name)
