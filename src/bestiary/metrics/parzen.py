"""The Parzen window estimate of old papers' tables."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bestiary.config import check_count
from bestiary.errors import OptionError
from bestiary.metrics.features import Array, check_features, check_pair, chunks, protocol
from bestiary.metrics.results import Score

PARZEN_NOTICE = (
    "a Parzen window estimate can miss the log-likelihood by hundreds of nats and rank models wrongly "
    "(Theis et al., 2016, arXiv 1511.01844), so use it only beside the tables of papers that used it"
)
SIGMAS = tuple(np.logspace(-1, 0, 10).tolist())


@dataclass(frozen=True)
class ParzenWindow(Score):
    """Mean log-density of the real examples under the window (`value`), nats.

    Attributes:
        sigma: width of the window, chosen on validation data.
    """

    sigma: float


def parzen_window(
    *,
    real: Array,
    fake: Array,
    validation: Array,
    sigmas: Sequence[float] = SIGMAS,
    embedding: str = "pixels",
    chunk: int = 1024,
) -> ParzenWindow:
    """Log-density of real examples under a Gaussian window around each sample.

        log p(x) = log 1/m Σ_j N(x; y_j, σ² I),  σ the best of `sigmas` on `validation`

    The error is the deviation over real examples divided by √n; it knows nothing of the samples' own
    chance, nor that the number is biased by far more than that. A warning says so at each call.

    References: *Generative Adversarial Networks* (Goodfellow et al., 2014), arXiv 1406.2661, §5: pixels in
    [0, 1], 10,000 samples, σ the best of ten from 0.1 to 1 on the first 1,000 validation examples. *A note on
    the evaluation of generative models* (Theis et al., 2016), arXiv 1511.01844: why not.

    Arguments:
        real: examples of the test split, flattened, (n, d).
        fake: samples, (m, d).
        validation: examples to choose σ with, (v, d).
        sigmas: candidates.
        embedding: what the examples are, for the protocol's name.
        chunk: rows at a time; beside the data this takes about 24·chunk·(chunk + d) bytes.

    Raises:
        DataError: wrong shapes, different d, or values that are not finite.
        OptionError: no candidates, or one that is not positive.
    """
    warnings.warn(PARZEN_NOTICE, stacklevel=2)
    x, y = check_pair(real, fake, minimum_fake=1)
    held_out = check_features("validation", validation, minimum=1)
    check_pair(held_out, fake, minimum=1)
    sigmas = [float(sigma) for sigma in sigmas]
    check_count("chunk", chunk, least=1)
    if not sigmas or not all(0 < sigma < math.inf for sigma in sigmas):
        raise OptionError(f"sigmas: found {list(sigmas)}, wanted at least one, all > 0")
    sigma = sigmas[int(_log_density(held_out, y, sigmas, chunk).mean(dim=1).argmax())]
    log_density = _log_density(x, y, [sigma], chunk)[0]
    return ParzenWindow(
        value=log_density.mean().item(),
        error=log_density.std().item() / math.sqrt(len(x)),
        n_real=len(x),
        n_fake=len(y),
        protocol=protocol("parzen-window", embedding, len(x), len(y), f"σ={sigma:.3g}"),
        sigma=sigma,
    )


def _log_density(x: Tensor, y: Tensor, sigmas: Sequence[float], chunk: int) -> Tensor:
    """log 1/m Σ_j N(x_i; y_j, σ² I) for each σ, (len(sigmas), n)."""
    scale = -0.5 / torch.tensor(sigmas, dtype=torch.float64).square()
    log_sum = torch.full((len(sigmas), len(x)), -torch.inf, dtype=torch.float64)
    centre = y.double().mean(dim=0)  # keeps the cancellation in the distances small
    for rows, a in chunks(x, chunk):
        for _, b in chunks(y, chunk):
            squares = torch.cdist(a - centre, b - centre).square_()
            for log_sums, factor in zip(log_sum[:, rows], scale, strict=True):
                torch.logaddexp(log_sums, (factor * squares).logsumexp(dim=1), out=log_sums)
    normaliser = 0.5 * x.shape[1] * torch.log(math.pi / -scale) + math.log(len(y))
    return log_sum - normaliser[:, None]
