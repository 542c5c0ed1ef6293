"""Missing pixels of a model whose order is fixed, by sequential importance resampling.

Particles are drawn in the model's order. At a missing sub-pixel each draws from the model; at an observed one
it is set to what was observed, and its weight is multiplied by the probability that the model gave it.
Where few particles carry the weight of an image they are resampled. An observed pixel thus counts for the
missing ones before it too, which a model that is simply run over the image ignores. The mean weight is an
unbiased estimate of p(x_observed); a completion is one particle, drawn by weight: exact in the limit of
many particles, and for any number where no observed sub-pixel comes after a missing one.

Source: *Sequential Imputations and Bayesian Missing Data Problems* (Kong, Liu & Wong, 1994); resampling of
*Novel approach to nonlinear/non-Gaussian Bayesian state estimation* (Gordon et al., 1993), by systematic
draws (Carpenter et al., 1999).

The law q of such completions is not the model's p(x_missing | x_observed), but can be estimated: with the
truth itself as one of the particles, which always lives on, p(x) over the mean weight is an unbiased estimate
of q(x_missing) (conditional sequential Monte Carlo: *Particle Markov chain Monte Carlo methods*, Andrieu,
Doucet & Holenstein, 2010). Shapes: B images, n completions of each, P particles for each of these.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.models.autoregressive.drawing import Cache, inverse_cdf
from bestiary.networks.orders import Order
from bestiary.randomness import uniform_like

RESAMPLE_BELOW = 0.5  # of P, the usual share


@dataclass(frozen=True)
class Completion:
    """Completed images, and how far they can be trusted.

    Attributes:
        images: shape (n, B, C, H, W), observed values unchanged.
        log_observed: log p(x_observed), nats, shape (n, B). Exact where `effective_sample_size` is P;
            elsewhere the logarithm of an unbiased estimate, which is too low in the mean.
        effective_sample_size: (Σw)²/Σw² of the weights, from 1 to P, the lowest of all pixels, shape (n, B).
        ancestors: how many of the P particles that were there at the first missing pixel have descendants
            at the last one, shape (n, B): 1 says that the first missing pixels had no choice in the end.
    """

    images: Tensor
    log_observed: Tensor
    effective_sample_size: Tensor
    ancestors: Tensor

    @classmethod
    def joined(cls, parts: Sequence["Completion"], n: int) -> "Completion":
        """Parts of shape (1, …), one after the other completion by completion, as one of shape (n, B, …)."""
        fields = ("images", "log_observed", "effective_sample_size", "ancestors")
        whole = [torch.cat([getattr(part, name) for part in parts], dim=1)[0] for name in fields]
        return cls(*(value.view(n, -1, *value.shape[1:]) for value in whole))


def resample(
    cache: Cache,
    order: Order,
    x: Tensor,
    observed: Tensor,
    uniform: Tensor,
    *,
    levels: int,
    generator: torch.Generator | None,
    retained: bool = False,
) -> Completion:
    """One completion of each image by P particles.

    Arguments:
        cache: an empty one, for B·P images, the particles of an image beside each other.
        order: of the pixels.
        x: images in [0, 1], (B, C, H, W); where they are not observed, values do not matter.
        observed: bool, (B, C, H, W).
        uniform: numbers in [0, 1), (B·P, C, H, W).
        levels: K.
        generator: of the resampling.
        retained: whether x, whole, is the first particle, which lives on.
    """
    batch, particles, top = len(x), len(uniform) // len(x), levels - 1
    drawn = torch.zeros_like(uniform, dtype=torch.int64)  # levels
    log_weight = uniform.new_zeros(batch, particles)
    log_observed = uniform.new_zeros(batch)
    lowest = uniform.new_full((batch,), float(particles))
    start = torch.arange(batch, device=x.device)[:, None] * particles
    is_truth = torch.arange(batch * particles, device=x.device) % particles == 0 if retained else None
    lineage = (torch.arange(particles, device=x.device) + start).flatten()  # of each particle
    for row, column in order:
        for channel in range(x.shape[1]):
            place = (slice(None), channel, row, column)
            logits = cache.logits(row, column, channel)
            log_mass = torch.log_softmax(logits, dim=1)
            seen = observed[place].repeat_interleave(particles)
            truth = (x[place].nan_to_num() * top).round().long().clamp(0, top).repeat_interleave(particles)
            given = seen if is_truth is None else seen | is_truth
            chosen = torch.where(given, truth, inverse_cdf(logits, uniform[place].contiguous()))
            drawn[place] = chosen
            cache.put(row, column, channel, chosen.to(logits.dtype) / top)
            if not bool(observed[place].any()):
                continue
            gained = torch.where(seen, log_mass.gather(1, chosen[:, None])[:, 0], 0.0)
            log_weight = log_weight + gained.view(batch, particles)
            effective = _effective_sample_size(log_weight)
            lowest = torch.minimum(lowest, effective)
            poor = effective < RESAMPLE_BELOW * particles
            if bool(poor.any()):
                kept = torch.arange(particles, device=x.device)
                heirs = torch.where(poor[:, None], _systematic(log_weight, generator, retained), kept)
                indices = (heirs + start).flatten()
                cache.select(indices)
                drawn, lineage = drawn[indices], lineage[indices]
                log_observed += torch.where(poor, _log_mean(log_weight), 0.0)
                log_weight = torch.where(poor[:, None], 0.0, log_weight)
    log_observed += _log_mean(log_weight)
    last = (_systematic(log_weight, generator)[:, :1] + start).flatten()
    images = torch.where(observed, x, drawn[last].to(x.dtype) / top)
    ancestors = torch.tensor([len(row.unique()) for row in lineage.view(batch, particles)], device=x.device)
    return Completion(images[None], log_observed[None], lowest[None], ancestors[None])


def _effective_sample_size(log_weight: Tensor) -> Tensor:
    """(Σw)² / Σw², (B,)."""
    return (2 * log_weight.logsumexp(1) - (2 * log_weight).logsumexp(1)).exp()


def _log_mean(log_weight: Tensor) -> Tensor:
    return log_weight.logsumexp(1) - math.log(log_weight.shape[1])


def _systematic(log_weight: Tensor, generator: torch.Generator | None, retained: bool = False) -> Tensor:
    """P indices in proportion to the weights, in random order, (B, P); `retained` ones all begin with 0."""
    batch, particles = log_weight.shape
    share = torch.softmax(log_weight, dim=1)
    cumulative = share.cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]
    # One point in [0, 1) decides: it is the first index's, the others follow at distances of 1/P, around.
    first = uniform_like(log_weight.new_empty(batch, 1), generator)
    if retained:
        first = first * share[:, :1]
    steps = torch.arange(particles, device=log_weight.device) / particles
    points = (first + steps) % 1
    indices = torch.searchsorted(cumulative, points, right=True).clamp_(max=particles - 1)
    if retained:
        indices[:, 0] = 0  # also where its share is rounded to nothing
    return indices
