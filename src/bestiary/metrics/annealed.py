"""Log-likelihood of a decoder by annealed importance sampling, and bounds on it from both sides.

Nothing here knows a model: p(x|z) is a function, p(z) a `LatentPrior`. Shapes: B examples, C chains, Z
latent dimensions, T temperatures; the chains of all examples of a chunk move together as N = C·B rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from bestiary.distributions.gaussian import gaussian_log_prob
from bestiary.errors import DataError, OptionError
from bestiary.metrics.features import protocol
from bestiary.metrics.results import Score
from bestiary.objectives.bounds import importance_weighted_bound

LogLikelihood = Callable[[Tensor, Tensor], Tensor]
_ACCEPTANCE = 0.65  # wanted of the Hamiltonian moves
_FIRST_STEP = 0.1
_JITTER = 0.2
_PILOT = 25  # temperatures of the pilot run, at least
_RATE = 0.3  # change of the log step size per unit of missed acceptance


@dataclass(frozen=True)
class LatentPrior:
    """p(z): `draw(n, generator)` gives z (n, Z), `log_prob(z)` gives nats (n,), differentiable."""

    draw: Callable[[int, torch.Generator], Tensor]
    log_prob: Callable[[Tensor], Tensor]


def standard_normal(latent_dim: int) -> LatentPrior:
    """N(0, I) of `latent_dim` dimensions."""

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, latent_dim, generator=generator, device=generator.device, dtype=torch.float64)

    return LatentPrior(draw, gaussian_log_prob)


@dataclass(frozen=True)
class AnnealedLikelihood(Score):
    """Mean estimate of log p(x) (`value`), nats; the error is its deviation over examples over √B.

    Attributes:
        per_example: estimates, (B,), float64.
        log_weights: of each chain, (C, B).
        acceptance: mean acceptance of the moves; 0.65 is aimed at.
        effective_chains: mean of (Σ w)²/Σ w² over examples; near 1 the estimate rests on single chains:
            take more temperatures.
    """

    per_example: Tensor
    log_weights: Tensor
    acceptance: float
    effective_chains: float


@dataclass(frozen=True)
class BidirectionalBound(Score):
    """Mean gap, upper less lower bound (`value`), nats, with its deviation over examples over √B.

    Attributes:
        lower: bound from below on log p(x) of each simulated example, in expectation, (B,), float64.
        upper: bound from above, likewise.
        acceptance: mean acceptance of the moves; 0.65 is aimed at.
    """

    lower: Tensor
    upper: Tensor
    acceptance: float


def annealed_log_likelihood(
    x: Tensor,
    *,
    log_likelihood: LogLikelihood,
    prior: LatentPrior,
    treatment: str,
    temperatures: int = 1000,
    chains: int = 16,
    leapfrog: int = 10,
    chunk: int = 100,
    generator: torch.Generator | None = None,
) -> AnnealedLikelihood:
    r"""log p(x) = log ∫ p(z) p(x|z) dz by annealed importance sampling.

    Each chain starts at z ~ p(z) and moves through p_t(z) ∝ p(z) p(x|z)^{β_t}, t = 1 … T − 1, by Hamiltonian
    Monte Carlo. With w = Π_t p(x|z_{t−1})^{β_t − β_{t−1}},

        E w = p(x),  log 1/C Σ_c w_c ≤ log p(x) in expectation, and equal to it as T grows;

    β_t runs from 0 to 1 on the sigmoid schedule, β_t ∝ σ(4(2t/T − 1)) − σ(−4).

    References: *On the Quantitative Analysis of Decoder-Based Generative Models* (Wu et al., 2017), arXiv
    1611.04273, §3 and §6: the schedule, 16 chains, 10 leapfrog steps, step sizes for 65 % acceptance.

    Departures: step sizes, one for each example and temperature, are found in a pilot run at a quarter of the
    temperatures and then held, since sizes that follow a chain's own past make p_t no longer invariant, and
    E w = p(x) false. Each move varies its size by up to 20 %: trajectories of one length come back to where
    they began on the Gaussian near β = 0, which doubled the variance of log w on a linear decoder.

    Arguments:
        x: examples, (B, …).
        log_likelihood: (z, x) to log p(x|z), nats: z (N, Z) is float64, x (N, …) as given; put networks in
            evaluation mode. The gradient by z is taken by automatic differentiation.
        prior: p(z): `standard_normal(Z)`.
        treatment: what p(x|z) is a likelihood of, for the protocol's name: "log mass of 2 levels".
        temperatures: T.
        chains: C.
        leapfrog: steps of a move.
        chunk: examples at a time; C·chunk rows go through the decoder at once.
        generator: of every draw; None for one of seed 0.

    Raises:
        OptionError: no temperatures, chains, leapfrog steps or chunk.
        DataError: no examples, or a log-likelihood of another shape or that is not finite under the prior.

    Example:
        >>> def log_likelihood(z, x):
        ...     return vae.observation.log_prob(vae.decoder(z.float()), x)
        >>> found = annealed_log_likelihood(
        ...     x, log_likelihood=log_likelihood, prior=standard_normal(vae.latent_dim), treatment="log mass"
        ... )
    """
    _check(len(x), temperatures=temperatures, chains=chains, leapfrog=leapfrog, chunk=chunk)
    generator = generator or torch.Generator().manual_seed(0)
    parts, acceptance = [], 0.0
    for rows in x.split(chunk):
        sampler = _Sampler(rows, log_likelihood, prior, temperatures, chains, leapfrog, generator)
        weights, accepted = sampler.upwards()
        parts.append(weights.cpu())
        acceptance += accepted * len(rows) / len(x)
    log_weights = torch.cat(parts, dim=1)
    per_example = importance_weighted_bound(log_weights)
    shares = log_weights.softmax(dim=0)
    return AnnealedLikelihood(
        *_mean(per_example),
        n_real=len(x),
        n_fake=0,
        protocol=_protocol("annealed-likelihood", treatment, len(x), temperatures, chains, leapfrog),
        per_example=per_example,
        log_weights=log_weights,
        acceptance=acceptance,
        effective_chains=(1 / shares.square().sum(dim=0)).mean().item(),
    )


def bidirectional_bound(
    n: int,
    *,
    simulate: Callable[[Tensor, torch.Generator], Tensor],
    log_likelihood: LogLikelihood,
    prior: LatentPrior,
    treatment: str,
    temperatures: int = 1000,
    chains: int = 16,
    leapfrog: int = 10,
    chunk: int = 100,
    generator: torch.Generator | None = None,
) -> BidirectionalBound:
    r"""How far off `annealed_log_likelihood` is at these settings: both sides of log p(x) on simulated data.

    z ~ p(z) and x ~ p(x|z) make z an exact draw from p(z|x). Chains that start there and cool from β = 1 to 0
    have weights with E 1/w = 1/p(x), and so

        −log 1/C Σ_c 1/w_c ≥ log p(x) in expectation;

    the chains from the prior give the lower bound. The gap bounds the error of either, on data of the model.

    References: *Sandwiching the marginal likelihood using bidirectional Monte Carlo* (Grosse et al., 2015),
    arXiv 1511.02543; on decoders, Wu et al. (2017), arXiv 1611.04273, §4.

    Arguments:
        n: number of simulated examples.
        simulate: (z, generator) to x ~ p(x|z), of z (n, Z), float64.
        log_likelihood, prior, treatment, temperatures, chains, leapfrog, chunk, generator: as for
            `annealed_log_likelihood`.

    Raises:
        OptionError: no temperatures, chains, leapfrog steps or chunk.
        DataError: no examples, or a log-likelihood of another shape or that is not finite under the prior.
    """
    _check(n, temperatures=temperatures, chains=chains, leapfrog=leapfrog, chunk=chunk)
    generator = generator or torch.Generator().manual_seed(0)
    below, above, acceptance = torch.zeros(n).double(), torch.zeros(n).double(), 0.0
    for start in range(0, n, chunk):
        rows = slice(start, min(start + chunk, n))
        z = prior.draw(rows.stop - start, generator).double()
        x = simulate(z, generator)
        sampler = _Sampler(x, log_likelihood, prior, temperatures, chains, leapfrog, generator)
        weights, accepted = sampler.upwards()
        inverse_weights, accepted_downwards = sampler.downwards(z)
        below[rows] = importance_weighted_bound(weights).cpu()
        above[rows] = -importance_weighted_bound(inverse_weights).cpu()
        acceptance += (accepted + accepted_downwards) / 2 * len(z) / n
    return BidirectionalBound(
        *_mean(above - below),
        n_real=0,
        n_fake=n,
        protocol=_protocol("bidirectional-gap", treatment, n, temperatures, chains, leapfrog),
        lower=below,
        upper=above,
        acceptance=acceptance,
    )


def sigmoid_schedule(temperatures: int) -> Tensor:
    """β_0 = 0 … β_T = 1, (T + 1,), float64: most of them near the ends, where p_t changes fastest."""
    gamma = torch.linspace(-4, 4, temperatures + 1, dtype=torch.float64).sigmoid()
    return (gamma - gamma[0]) / (gamma[-1] - gamma[0])


class _State(NamedTuple):
    """Where the chains are, with both parts of log p_t and their gradients; every entry has N rows."""

    z: Tensor
    log_prior: Tensor
    log_likelihood: Tensor
    prior_score: Tensor
    likelihood_score: Tensor

    def score(self, beta: Tensor) -> Tensor:
        return self.prior_score + beta * self.likelihood_score


class _Sampler:
    """The chains of one chunk of examples; rows are ordered chain by chain."""

    def __init__(
        self,
        x: Tensor,
        log_likelihood: LogLikelihood,
        prior: LatentPrior,
        temperatures: int,
        chains: int,
        leapfrog: int,
        generator: torch.Generator,
    ) -> None:
        self._examples, self._chains = len(x), chains
        self._x = x.repeat(chains, *(1 for _ in x.shape[1:]))
        self._log_likelihood, self._prior = log_likelihood, prior
        self._betas = sigmoid_schedule(temperatures).to(x.device)
        self._leapfrog, self._generator = leapfrog, generator
        self._step_sizes = self._pilot(temperatures)

    def upwards(self) -> tuple[Tensor, float]:
        """Log weights (C, B) of chains from the prior, and the mean acceptance."""
        return self._run(self._start(), self._betas, self._step_sizes)

    def downwards(self, z: Tensor) -> tuple[Tensor, float]:
        """The same of chains from exact posterior draws z (B, Z): log 1/w."""
        state = self._state(z.repeat(self._chains, 1))
        return self._run(state, self._betas.flip(0), self._step_sizes.flip(0))

    def _run(self, state: _State, betas: Tensor, step_sizes: Tensor) -> tuple[Tensor, float]:
        log_weights = torch.zeros_like(state.log_likelihood)
        acceptance = torch.zeros_like(state.log_likelihood)
        for t in range(1, len(betas)):
            log_weights += (betas[t] - betas[t - 1]) * state.log_likelihood
            if t < len(betas) - 1:  # a move after the last weight would change nothing
                state, accepted = self._move(state, betas[t], step_sizes[t - 1])
                acceptance += accepted
        mean = acceptance.mean().item() / max(1, len(betas) - 2)
        return log_weights.view(self._chains, self._examples), mean

    def _pilot(self, temperatures: int) -> Tensor:
        """Step sizes for β_1 … β_{T−1}, (T − 1, B), from chains that are then thrown away."""
        betas = sigmoid_schedule(max(_PILOT, temperatures // 4)).to(self._x.device)
        state = self._start()
        log_step = torch.full_like(state.log_likelihood[: self._examples], math.log(_FIRST_STEP))
        found = []
        for beta in betas[1:-1]:
            state, accepted = self._move(state, beta, log_step.exp())
            mean = accepted.view(self._chains, self._examples).mean(dim=0)
            log_step = log_step + _RATE * (mean - _ACCEPTANCE)
            found.append(log_step)
        path = torch.stack(found, dim=1)[None]
        return F.interpolate(path, temperatures - 1, mode="linear", align_corners=True)[0].T.exp()

    def _start(self) -> _State:
        state = self._state(self._prior.draw(len(self._x), self._generator).to(self._x.device, torch.float64))
        if state.log_likelihood.shape != (len(self._x),):
            found = tuple(state.log_likelihood.shape)
            raise DataError(f"log_likelihood: found shape {found}, wanted ({len(self._x)},) for as many rows")
        if not state.log_likelihood.isfinite().all():
            raise DataError("log_likelihood: found NaN or infinite nats at draws of the prior, wanted finite")
        return state

    def _state(self, z: Tensor) -> _State:
        z = z.detach()
        with torch.enable_grad():
            of_prior, of_likelihood = z.clone().requires_grad_(), z.clone().requires_grad_()
            log_prior = self._prior.log_prob(of_prior)
            log_likelihood = self._log_likelihood(of_likelihood, self._x).double()
            scores = torch.autograd.grad(log_prior.sum() + log_likelihood.sum(), (of_prior, of_likelihood))
        return _State(z, log_prior.detach(), log_likelihood.detach(), *scores)

    def _move(self, state: _State, beta: Tensor, step_size: Tensor) -> tuple[_State, Tensor]:
        """One Hamiltonian move at temperature β with step sizes (B,), and each row's chance to be taken."""
        jitter = 1 + _JITTER * (2 * self._noise(torch.rand, len(state.z)) - 1)
        step = (step_size.repeat(self._chains) * jitter)[:, None]
        start = self._noise(torch.randn, *state.z.shape)
        momentum = start + step / 2 * state.score(beta)
        moved = state
        for i in range(self._leapfrog):
            moved = self._state(moved.z + step * momentum)
            momentum = momentum + step / (1 if i < self._leapfrog - 1 else 2) * moved.score(beta)
        gain = moved.log_prior - state.log_prior + beta * (moved.log_likelihood - state.log_likelihood)
        gain = gain + (start.square() - momentum.square()).sum(dim=1) / 2
        accepted = self._noise(torch.rand, len(gain)).log() < gain  # never where the trajectory ran to NaN
        taken = (
            torch.where(accepted.view(-1, *(1,) * (new.ndim - 1)), new, old)
            for new, old in zip(moved, state, strict=True)
        )
        return _State(*taken), gain.clamp(max=0).exp().nan_to_num(0.0)

    def _noise(self, draw: Callable[..., Tensor], *shape: int) -> Tensor:
        generator = self._generator
        noise = draw(*shape, generator=generator, device=generator.device, dtype=torch.float64)
        return noise.to(self._x.device)


def _check(n: int, **settings: int) -> None:
    for name, value in settings.items():
        if value < (2 if name == "temperatures" else 1):
            raise OptionError(f"{name}: found {value}, wanted at least {2 if name == 'temperatures' else 1}")
    if n < 1:
        raise DataError("x: found no examples, wanted at least one")


def _mean(values: Tensor) -> tuple[float, float | None]:
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None
    return values.mean().item(), error


def _protocol(metric: str, treatment: str, n: int, temperatures: int, chains: int, leapfrog: int) -> str:
    settings = f"{temperatures} temperatures, {chains} chains, HMC {leapfrog} leapfrog"
    return protocol(metric, treatment, n, n, settings)
