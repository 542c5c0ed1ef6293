"""The discretised logistic mixture of PixelCNN++, and its mass in log space at any magnitude.

Shapes: ... any batch shape, C channels, K components, L levels, E = C(C−1)/2 pairs of channels.
"""

import math
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints

from bestiary.distributions.observation import at_least_float32
from bestiary.randomness import uniform_like

SMALLEST_LOG_SCALE = -7.0  # as published
LARGEST_LOG_SCALE = 40.0  # where a bin's share of a component is still a float32
CHUNK = 2**22  # numbers of (component, level) held at once, 16 MiB


def raw_outputs(channels: int, mixtures: int) -> int:
    """Numbers that `DiscretizedLogisticMixture.from_raw` wants: K(1 + 2C + C(C−1)/2); 10·K for colour."""
    return mixtures * (1 + 2 * channels + channels * (channels - 1) // 2)


class DiscretizedLogisticMixture(Distribution):
    r"""The masses that a mixture of logistic densities puts on the L levels of the channels of a pixel.

    With levels on [−1, 1], δ = 1/(L−1), and the same component k for all channels,

    .. math::
        P(x) = \sum_k \pi_k \prod_c [σ((x_c + δ − m_{kc})/s_{kc}) − σ((x_c − δ − m_{kc})/s_{kc})], \qquad
        m_{kc} = μ_{kc} + \sum_{d<c} a_{kcd} x_d

    where the first and the last level take the tails, so that the masses sum to one. For one channel it is a
    plain mixture; for three, G depends linearly on R, and B on R and G.

    Values are levels k/(L−1) in [0, 1], float, shape (..., C). `log_prob` is in nats, shape (...), the sum
    over channels. Everything is finite, gradients too, however far the tail.

    References:
        *PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other
        Modifications* (Salimans et al., 2017), arXiv 1701.05517, eq. 2 and 3.

    Departures from the paper: the mass of a bin is exact, as log σ(a) + log σ(−b) + log(1 − e^{b−a}) for
    edges b < a, which never cancels; `faithful` gives the published code's approximation. Any number of
    channels has the linear dependence. Samples are rounded to levels, before the next channel depends on
    them; the published code only clips them.

    Arguments:
        logits: of the weights π, (..., K).
        means: μ, on [−1, 1], (..., C, K).
        log_scales: log s, (..., C, K).
        coefficients: a, (..., E, K) in the order GR, BR, BG; may be left out for one channel.
        levels: L.
        faithful: `log_prob` as in the published code: a component's mass of 1e-5 or less is its density at
            the middle of the bin times the bin's width; levels below −0.999 and above 0.999 take the tails.

    Example:
        >>> law = DiscretizedLogisticMixture.from_raw(torch.zeros(5, 30), channels=1)
        >>> law.log_prob(law.sample()).shape
        torch.Size([5])
    """

    arg_constraints = {  # noqa: RUF012  (torch declares it as an instance's)
        "logits": constraints.real_vector,
        "means": constraints.independent(constraints.real, 2),
        "log_scales": constraints.independent(constraints.real, 2),
        "coefficients": constraints.independent(constraints.real, 2),
    }
    support = constraints.independent(constraints.unit_interval, 1)

    def __init__(
        self,
        logits: Tensor,
        means: Tensor,
        log_scales: Tensor,
        coefficients: Tensor | None = None,
        *,
        levels: int = 256,
        faithful: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        self.logits, self.means, self.log_scales = logits, means, log_scales
        self.coefficients = means[..., :0, :] if coefficients is None else coefficients
        self.levels = levels
        self._faithful = faithful
        super().__init__(means.shape[:-2], means.shape[-2:-1], validate_args=validate_args)

    @classmethod
    def from_raw(
        cls, raw: Tensor, *, channels: int, levels: int = 256, faithful: bool = False
    ) -> "DiscretizedLogisticMixture":
        """The law that a network's raw outputs name, as published: a = tanh(·), log s ≥ −7.

        Arguments:
            raw: logits, means, log-scales and coefficients one after the other, (..., `raw_outputs`).
            channels: C.
            levels: L.
            faithful: see the class.
        """
        raw = at_least_float32(raw)
        pairs = channels * (channels - 1) // 2
        mixtures = raw.shape[-1] // (1 + 2 * channels + pairs)
        blocks = raw.unflatten(-1, (-1, mixtures))
        logits, means, log_scales, coefficients = blocks.split([1, channels, channels, pairs], dim=-2)
        return cls(
            logits[..., 0, :],
            means,
            log_scales.clamp(SMALLEST_LOG_SCALE, LARGEST_LOG_SCALE),
            coefficients.tanh(),
            levels=levels,
            faithful=faithful,
            validate_args=False,
        )

    @property
    def channels(self) -> int:
        """C."""
        return int(self.event_shape[0])

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x), nats, shape (...)."""
        if self._validate_args:
            self._validate_sample(value)
        of_channels = [self._means(c, value) for c in range(self.channels)]
        means = torch.stack(torch.broadcast_tensors(*of_channels), dim=-2)
        mass = _published_log_mass if self._faithful else _log_mass
        per_component = mass(value[..., None], means, self.log_scales, self.levels).sum(dim=-2)
        return (self.logits.log_softmax(dim=-1) + per_component).logsumexp(dim=-1)

    def level_log_masses(self, channel: int, earlier: Tensor) -> Tensor:
        """log P(x_c = k/(L−1) | x_0 … x_{c−1}) for every level k, exact whatever `faithful` says.

        It is log Σ_k π_k(earlier) P_k(x_c | earlier), with weights that the earlier channels have updated.

        Arguments:
            channel: c.
            earlier: values in [0, 1], (..., c) or more channels, of which only the first c are looked at.

        Returns:
            nats, shape (..., L); they sum to one.
        """
        weights = self.logits.log_softmax(dim=-1)
        for c in range(channel):
            scales = self.log_scales[..., c, :]
            weights = weights + _log_mass(earlier[..., c, None], self._means(c, earlier), scales, self.levels)
        if channel:
            weights = weights.log_softmax(dim=-1)
        means, log_scales = self._means(channel, earlier), self.log_scales[..., channel, :]
        weights, means, log_scales = torch.broadcast_tensors(weights, means, log_scales)
        mixtures = means.shape[-1]
        rows = max(1, CHUNK // (mixtures * self.levels))
        parts = [t.reshape(-1, mixtures).split(rows) for t in (weights, means, log_scales)]
        masses = torch.cat(list(map(_level_log_masses, *parts, repeat(self.levels))))
        return masses.view(*means.shape[:-1], -1)

    def sample(
        self,
        sample_shape: torch.Size | list[int] | tuple[int, ...] = (),
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Levels in [0, 1], shape ``(*sample_shape, ..., C)``: a component, then its logistic draws, rounded.

        A logistic draw that is rounded to the nearest level and clipped has exactly the masses of `log_prob`.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        uniform = uniform_like(self.means.new_empty(shape[-1] + 1, *shape[:-1]), generator)
        top = self.levels - 1
        with torch.no_grad():
            below = self.logits.softmax(dim=-1).cumsum(dim=-1)[..., :-1] <= uniform[-1, ..., None]
            component = below.sum(dim=-1, keepdim=True)  # (*sample_shape, ..., 1)
            value = uniform.new_zeros(shape)
            for c in range(self.channels):
                means = self._means(c, value).expand(*shape[:-1], -1)
                mean = means.gather(-1, component)[..., 0]
                log_scale = self.log_scales[..., c, :].expand_as(means).gather(-1, component)[..., 0]
                draw = mean + log_scale.exp() * torch.logit(uniform[c])  # of 0: −∞, the first level
                value[..., c] = ((draw.clamp(-1, 1) + 1) / 2 * top).round() / top
        return value

    def _means(self, channel: int, earlier: Tensor) -> Tensor:
        """m_{kc}, (..., K): the means of one channel given the values of those before it."""
        first = channel * (channel - 1) // 2
        means = self.means[..., channel, :]
        for c in range(channel):
            means = means + self.coefficients[..., first + c, :] * (2 * earlier[..., c, None] - 1)
        return means


def _log_mass(value: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """log of a logistic density's mass on the bins of values in [0, 1]; the arguments broadcast."""
    delta = 1 / (levels - 1)
    inverse = (-log_scale).exp()
    centred = 2 * value - 1 - mean
    from_below = F.logsigmoid((centred + delta) * inverse)  # log σ(a): all there is of the first level
    from_above = F.logsigmoid((delta - centred) * inverse)  # log(1 − σ(b)): all there is of the last level
    inside = from_below + from_above + _log_width(inverse, delta)  # log(σ(a) − σ(b))
    level = (value * (levels - 1)).round()
    return torch.where(level <= 0, from_below, torch.where(level >= levels - 1, from_above, inside))


def _published_log_mass(value: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """`_log_mass` as the published code approximates it."""
    delta = 1 / (levels - 1)
    inverse = (-log_scale).exp()
    x = 2 * value - 1
    centred = x - mean
    upper, lower, middle = (centred + delta) * inverse, (centred - delta) * inverse, centred * inverse
    difference = upper.sigmoid() - lower.sigmoid()
    density = middle - log_scale - 2 * F.softplus(middle)
    rare = density - math.log((levels - 1) / 2)
    # Where the logarithm is not used, the bound keeps its gradient from being infinite times zero.
    inside = torch.where(difference > 1e-5, difference.clamp(min=1e-12).log(), rare)
    edges = torch.where(x > 0.999, F.logsigmoid(-lower), inside)
    return torch.where(x < -0.999, F.logsigmoid(upper), edges)


def _level_log_masses(log_weights: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Log masses (B, L) of all levels under a mixture of K components, each argument (B, K).

    For the upper edge a_v of a level, σ(a) = e^{min(a, 0)} / (1 + e^{−|a|}), and σ(−a) is e^{−max(a, 0)} over
    that. The mass σ(a_v) σ(−a_{v−1}) (1 − e^{−2δ/s}) of a component is thus a power of e over two factors
    between 1 and 2, and a logarithm is wanted for the sum over components alone.
    """
    delta = 1 / (levels - 1)
    inverse = (-log_scale).exp()
    edges = torch.arange(1, 2 * levels - 1, 2, device=mean.device, dtype=mean.dtype) * delta - 1  # (L − 1,)
    a = (edges - mean[..., None]) * inverse[..., None]  # (B, K, L − 1)
    below = a.clamp(max=0)
    above = below - a  # −max(a, 0)
    factor = 1 + (below + above).exp()
    exponent = below[..., 1:] + above[..., :-1] + (log_weights + _log_width(inverse, delta))[..., None]
    largest = exponent.detach().amax(dim=1, keepdim=True)
    shares = (exponent - largest).exp() / (factor[..., 1:] * factor[..., :-1])
    inner = shares.sum(dim=1).log() + largest[:, 0]
    first = (log_weights + F.logsigmoid(a[..., 0])).logsumexp(dim=1, keepdim=True)
    last = (log_weights + F.logsigmoid(-a[..., -1])).logsumexp(dim=1, keepdim=True)
    return torch.cat([first, inner, last], dim=1)


def _log_width(inverse_scale: Tensor, delta: float) -> Tensor:
    """log(1 − e^{b−a}) of edges that are 2δ/s apart."""
    return torch.log(-torch.expm1(-2 * delta * inverse_scale))
