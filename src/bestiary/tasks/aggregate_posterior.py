"""Where a VAE's codes are, and where its prior says they are: the mismatch, as numbers and as samples.

The aggregate posterior q(z) = 1/N Σ_n q(z|x_n) is the law of codes of N examples, here the exact mixture of
all N. Shapes: z (n, Z); log-densities are nats.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.data.splits import Split
from bestiary.distributions.posteriors import Posterior
from bestiary.errors import BestiaryError, DataError, OptionError
from bestiary.metrics.results import Score
from bestiary.models.latent.fitted_prior import FittedPrior
from bestiary.models.latent.vae import VAE

_EXAMPLES = 500  # whose posteriors are looked at together
_NUMBERS = 2**23  # of distances between codes and posteriors at a time
_OUTSKIRTS = 0.1  # share of a prior's draws, those with the least log p(z), where it is not dense


@dataclass(frozen=True)
class ElboSurgery:
    """The three terms of E KL(q(z|x) ‖ p(z)) = I_q(x; z) + KL(q(z) ‖ p(z)), nats.

    Attributes:
        divergence: E KL(q(z|x) ‖ p(z)), what the ELBO pays for its codes.
        mutual_information: I_q(x; z), how much of that tells the N examples apart.
        mismatch: KL(q(z) ‖ p(z)), how much pays for a prior that is not where the codes are.
        most_information: log N, which I_q(x; z) cannot exceed.
    """

    divergence: Score
    mutual_information: Score
    mismatch: Score
    most_information: float


@dataclass(frozen=True)
class RankedCodes:
    """Codes by how much denser the prior is there than the codes of examples.

    Attributes:
        z: (n, Z).
        x: what they decode to, (n, *spec.shape).
        log_ratio: log p(z) − log q(z), nats, float64, (n,).
    """

    z: Tensor
    x: Tensor
    log_ratio: Tensor


@dataclass(frozen=True)
class PriorHoles:
    """Draws of a prior, from the emptiest regions of the aggregate posterior and from the fullest.

    Attributes:
        empty: those with the largest log p(z) − log q(z), the largest first.
        full: those with the smallest, the smallest first.
        log_ratio: of all draws, in the order of drawing, (candidates,); their mean is an estimate of
            KL(p(z) ‖ q(z)).
    """

    empty: RankedCodes
    full: RankedCodes
    log_ratio: Tensor


class AggregatePosterior:
    """q(z) of a model and of examples.

    Arguments:
        model: a `vae` or its kin.
        examples: N of them, without conditions.

    Raises:
        BestiaryError: a model with conditions.
        DataError: an endless source.
    """

    def __init__(self, model: VAE, examples: Split) -> None:
        if model.spec.condition is not None:
            raise BestiaryError("model: found one with conditions, wanted one whose codes have a single law")
        if examples.endless:
            raise DataError("examples: found an endless source, wanted a fixed number of examples")
        self._model, self._examples = model, examples
        with model.evaluation():
            self._posteriors = [self._posterior(batch.x) for batch in examples.batches(_EXAMPLES)]

    def __len__(self) -> int:
        return len(self._examples)

    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n times z ~ q(z|x) of an example x drawn with replacement: z (n, Z) and log q(z|x), (n,)."""
        device = "cpu" if generator is None else generator.device
        chosen = torch.randint(len(self), (n,), generator=generator, device=device).cpu()
        noise = self._model.normal(n, 1, self._model.latent_dim, generator=generator)
        parts = []
        with self._model.evaluation():
            for rows, own in zip(chosen.split(_EXAMPLES), noise.split(_EXAMPLES), strict=True):
                q = self._posterior(self._examples[rows].x)
                parts.append(q.draw(own.to(q.mean)))
        return torch.cat([z[:, 0] for z, _ in parts]), torch.cat([log_q[:, 0] for _, log_q in parts])

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) of codes (n, Z), float64, (n,): N·n·Z numbers, in parts."""
        rows = max(1, _NUMBERS // (_EXAMPLES * z.shape[1]))
        with torch.no_grad():
            return torch.cat([self._log_prob(part) for part in z.split(rows)]) - math.log(len(self))

    def _log_prob(self, z: Tensor) -> Tensor:
        total = z.new_full((len(z),), -math.inf, dtype=torch.float64)
        for q in self._posteriors:
            total = torch.logaddexp(total, q.log_prob(z[None]).double().logsumexp(0))
        return total

    def _posterior(self, x: Tensor) -> Posterior:
        return self._model.posterior(x.to(self._model.device), self._model.context(None, len(x)))


def elbo_surgery(
    model: VAE | FittedPrior, examples: Split, *, draws: int = 2000, generator: torch.Generator | None = None
) -> ElboSurgery:
    r"""How far the aggregate posterior q(z) of N examples is from the model's prior:

    .. math::
        E_n KL(q(z|x_n) \| p(z)) = I_q(x; z) + KL(q(z) \| p(z)), \quad q(z) = \frac{1}{N} \sum_n q(z|x_n),

    each a mean over codes z ~ q(z|x) of examples drawn with replacement, of log q(z|x) − log p(z),
    log q(z|x) − log q(z) and log q(z) − log p(z), with q(z) the mixture of all N; the first is the sum of the
    others draw by draw. Errors are those of the draws, given the examples.

    I_q is at most log N. Of a model whose codes tell examples better apart than that, it is log N whatever
    the prior, and KL(q(z) ‖ p(z)) is then too large for the law that the examples come from, which has codes
    between theirs: take many examples, and compare priors at the same N.

    References:
        *ELBO surgery: yet another way to carve up the variational evidence lower bound* (Hoffman & Johnson,
        2016), NIPS workshop on Advances in Approximate Bayesian Inference.

    Arguments:
        model: a `vae` or its kin; or what `fit_prior` made of one, which has the fitted prior.
        examples: N of them, without conditions.
        draws: codes; the work is N·draws·Z.
        generator: of the draws.

    Raises:
        BestiaryError: a model without q(z|x) in closed form, or with conditions.
        DataError: an endless source.
        OptionError: fewer than two draws.
    """
    if draws < 2:
        raise OptionError(f"draws: found {draws}, wanted at least 2")
    aggregate = AggregatePosterior(_vae(model), examples)
    z, log_q_given_x = aggregate.draw(draws, generator)
    log_q_given_x, log_q = log_q_given_x.double(), aggregate.log_prob(z)
    with model.evaluation():
        log_p = _log_prior(model, z)

    def score(name: str, nats: Tensor) -> Score:
        error = float(nats.std()) / math.sqrt(draws)
        protocol = f"ELBO surgery[{name}, N={len(aggregate)}, draws={draws}]"
        return Score(float(nats.mean()), error, len(aggregate), 0, protocol)

    return ElboSurgery(
        divergence=score("E KL(q(z|x) ‖ p(z))", log_q_given_x - log_p),
        mutual_information=score("I(x; z)", log_q_given_x - log_q),
        mismatch=score("KL(q(z) ‖ p(z))", log_q - log_p),
        most_information=math.log(len(aggregate)),
    )


def prior_holes(
    model: VAE | FittedPrior,
    examples: Split,
    *,
    n: int = 16,
    candidates: int = 2000,
    generator: torch.Generator | None = None,
) -> PriorHoles:
    """What a model samples where its prior is dense and no example has its code, and where many have.

    Codes are drawn from the prior, the tenth of them with the least log p(z) is left out, and the others are
    ranked by log p(z) − log q(z), with q(z) the exact mixture over all examples.

    References:
        *Resampled Priors for Variational Autoencoders* (Bauer & Mnih, 2019), arXiv 1810.11428, on codes to
        which the prior gives much mass and the aggregate posterior little, and on their samples.

    Arguments:
        model: a `vae` or its kin; or what `fit_prior` made of one, which has the fitted prior.
        examples: N of them, without conditions.
        n: codes of each kind.
        candidates: draws of the prior; the work is N·candidates·Z.
        generator: of the draws.

    Raises:
        BestiaryError: a model without q(z|x) in closed form, or with conditions.
        DataError: an endless source.
        OptionError: no n, or fewer candidates than 3n.
    """
    if not 1 <= n <= candidates // 3:
        raise OptionError(f"n: found {n} of {candidates} candidates, wanted from 1 to a third of them")
    aggregate = AggregatePosterior(_vae(model), examples)
    with model.evaluation():
        z = (
            model.prior.draw(candidates, generator)
            if isinstance(model, FittedPrior)
            else model.draw_codes(candidates, generator=generator)
        )
        log_p = _log_prior(model, z)
    log_ratio = log_p - aggregate.log_prob(z)
    order = log_ratio.argsort(descending=True)
    order = order[log_p[order] > log_p.quantile(_OUTSKIRTS)]

    def ranked(chosen: Tensor) -> RankedCodes:
        return RankedCodes(z[chosen], model.decode(z[chosen]), log_ratio[chosen])

    return PriorHoles(empty=ranked(order[:n]), full=ranked(order[-n:].flip(0)), log_ratio=log_ratio)


def _vae(model: VAE | FittedPrior) -> VAE:
    found = model.encoder if isinstance(model, FittedPrior) else model
    if not isinstance(found, VAE):
        raise BestiaryError(
            f"model: found {type(found).__name__}, wanted vae or one of its kin, whose q(z|x) is known"
        )
    return found


def _log_prior(model: VAE | FittedPrior, z: Tensor) -> Tensor:
    law = model.prior.log_prob if isinstance(model, FittedPrior) else model.log_prior
    return law(z).double()
