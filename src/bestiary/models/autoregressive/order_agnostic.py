"""Locally masked PixelCNN: one network for many orders of the pixels, chosen when it is used."""

import copy
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.config import Ge, Gt, Le, Search
from bestiary.data.specs import Spec
from bestiary.errors import DataError, OptionError
from bestiary.models.autoregressive.base import PARTICLES, SAMPLE_CHUNK, SCORE_LOGITS, Autoregressive
from bestiary.models.autoregressive.completion import Completion
from bestiary.models.autoregressive.drawing import Progress, inverse_cdf
from bestiary.models.base import Player, Step
from bestiary.models.inputs import condition_dim
from bestiary.models.optimizers import OptimizerName, named_optimizer
from bestiary.models.schedules import linear_tail
from bestiary.networks.locally_masked import LocallyMaskedStack
from bestiary.networks.locally_masked_cache import LocallyMaskedCache
from bestiary.networks.orders import Order, an_order, named_orders, observed_first, ranks


class OrderAgnostic(Autoregressive):
    """Exact likelihood of images drawn in any order of their pixels, by locally masked convolutions.

    log p_π(x | h) = Σ_i log p(x_π(i) | x_π(1) … x_π(i−1), h) for an order π of the pixels; R, G and B of a
    pixel are drawn in this order. Each update takes one of the orders that it is trained on. Each order is a
    law of its own: `order` says which one a method means, by its name (see `bestiary.networks.orders`) or as
    a sequence of (row, column), and is the first of `orders` by default.

    Missing pixels are completed exactly: the observed ones are drawn first, then the missing ones, both in
    the sequence of that trained order in which the missing ones come latest.

    Images (B, C, H, W) in [0, 1] with K = `spec.levels` levels per sub-pixel. The condition h is a class,
    one-hot, or a vector. Likelihoods are nats.

    References:
        *Locally Masked Convolution for Autoregressive Models* (Jain, Abbeel & Pathak, 2020), arXiv
        2006.12486; its blocks are those of *PixelCNN++* (Salimans et al., 2017), arXiv 1701.05517, with
        *Positional Normalization* (Li et al., 2019), arXiv 1907.04312.

    Departures from the paper: all images have a softmax over their levels, as its binary ones; its grey and
    colour images have a mixture of logistics, which ties neighbouring levels. Maps therefore belong to
    channels of the image, and normalisation is over those of one channel, so that none sees a later one. The
    1 × 1 convolutions have no weight normalisation. A condition is added where PixelCNN++ adds it; the paper
    has none. The rate of Adam is constant, as it nearly is in the paper's code. Training on hidden parts is
    ours.

    Arguments:
        spec: images of any number of channels and levels; `condition` may be none, classes or a vector.
        orders: names of the orders that it is trained on; by default the paper's eight S-curves.
        hidden: share of the updates that are practice for completion: the order is one of `orders`, but a
            random part of the image comes last: single pixels, a random share of them, or a rectangle. The
            paper has none of these, and completes well what lies at the end of an order.
        blocks: gated blocks of a stage; of the six stages the last two have one more.
        channels: feature maps.
        optimizer: "rmsprop", "adam" or "soap", with their usual constants.
        learning_rate: of the optimiser.
        anneal: share of the budget, at its end, over which the learning rate falls in a line to zero.
        batch_size: images per update.

    Example:
        >>> model = OrderAgnostic(ImageSpec(1, 28, 28), blocks=1, channels=32)
        >>> x = model.sample(16, order="hilbert", generator=torch.Generator().manual_seed(0))
    """

    def __init__(
        self,
        spec: Spec,
        *,
        orders: Sequence[str] = ("snake-all",),
        hidden: Annotated[float, Ge(0), Le(1)] = 0.0,
        blocks: Annotated[int, Ge(0), Search(0, 5)] = 5,
        channels: Annotated[int, Ge(2), Search(16, 160, log=True)] = 160,
        optimizer: OptimizerName = "adam",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 2e-4,
        anneal: Annotated[float, Ge(0), Le(1)] = 0.0,
        batch_size: Annotated[int, Ge(1)] = 32,
    ) -> None:
        super().__init__(spec, batch_size=batch_size)
        if channels < 2 * self.spec.channels:
            raise OptionError(
                f"channels: found {channels}, wanted at least two maps for each of the image's "
                f"{self.spec.channels} channels"
            )
        size = self.spec.height, self.spec.width
        self._orders = [order for name in orders for order in named_orders(name, *size)]
        if not self._orders:
            raise OptionError("orders: found none, wanted at least one name, as 'snake-all'")
        self.network = LocallyMaskedStack(
            self.spec.channels,
            self.spec.levels,
            blocks=blocks,
            channels=channels,
            condition_dim=condition_dim(spec),
        )
        self._hidden = hidden
        self._optimizer = named_optimizer(optimizer, learning_rate)
        self._schedule = partial(linear_tail, share=anneal)

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """Nine convolutions and a few maps."""
        return cls(spec, blocks=0, channels=12, learning_rate=1e-2, batch_size=16, hidden=0.5)

    @property
    def order(self) -> Order:
        """The order that is meant where none is given: the first of those it was trained on."""
        return self._orders[0]

    def in_order(self, order: str | Order) -> Self:
        """This model, with the same weights, as one of that order alone.

        Raises:
            OptionError: an unknown name, or not every pixel once.
        """
        other = copy.copy(self)
        other._orders = [an_order(order, self.spec.height, self.spec.width)]
        return other

    def players(self) -> Mapping[str, Player]:
        """One, "model"."""
        return {"model": Player(list(self.parameters()), self._optimizer, self._schedule)}

    def cost(self, step: Step) -> Mapping[str, Tensor]:
        """Mean of −log p_π(x) over the batch, nats, and the same in bits/dim; π is drawn for the update."""
        log_prob = self._log_prob_map(step.x, step.condition, self._draw_ranks(step.generator))
        loss = -log_prob.flatten(1).sum(dim=1).mean()
        return {"loss": loss, "bits_per_dim": loss.detach() / (self.spec.dimensions * math.log(2))}

    def logits(self, x: Tensor, condition: Tensor | None = None, order: str | Order | None = None) -> Tensor:
        """See `Autoregressive.logits`; `order` as the class says."""
        self.check_images(x)
        logits: Tensor = self.network(x, self._ranks(order), self.condition_vectors(condition, len(x)))
        return logits

    def cache(
        self, batch: int, condition: Tensor | None = None, order: str | Order | None = None
    ) -> LocallyMaskedCache:
        """See `Autoregressive.cache`; `order` as the class says."""
        vectors = self.condition_vectors(condition, batch)
        return LocallyMaskedCache(self.network, batch, self._ranks(order), vectors)

    def log_prob(
        self, x: Tensor, *, condition: Tensor | None = None, order: str | Order | None = None
    ) -> Tensor:
        """See `Autoregressive.log_prob`: exact log mass of each image in one order, nats, shape (B,)."""
        model = self if order is None else self.in_order(order)
        return super(OrderAgnostic, model).log_prob(x, condition=condition)

    def mixture_log_prob(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """log mean_π p_π(x) over the trained orders, nats, shape (B,): exact, of the paper's ensemble."""
        every = [self.log_prob(x, condition=condition, order=order) for order in self._orders]
        return torch.stack(every).logsumexp(dim=0) - math.log(len(every))

    def sample(
        self,
        n: int,
        *,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        progress: Progress | None = None,
        order: str | Order | None = None,
    ) -> Tensor:
        """See `Autoregressive.sample`; `order` as the class says."""
        model = self if order is None else self.in_order(order)
        return super(OrderAgnostic, model).sample(
            n, condition=condition, generator=generator, temperature=temperature, progress=progress
        )

    def completion_order(self, observed: Tensor) -> Order:
        """In which order an image is completed of which the pixels `observed`, bool (H, W), are given."""
        turns = self._completion_ranks(observed[None]).flatten().argsort()
        return [divmod(pixel, self.spec.width) for pixel in turns.tolist()]

    def _completion_ranks(self, observed: Tensor) -> Tensor:
        """When each pixel is drawn of images of which `observed`, bool (B, H, W), are given; (H, W, B)."""
        trained = torch.stack([self._ranks(order) for order in self._orders])  # (orders, H, W, 1)
        seen = observed.permute(1, 2, 0)
        lateness = (trained * ~seen).sum(dim=(1, 2))  # of the missing ones, (orders, B)
        return observed_first(trained[lateness.argmax(dim=0), ..., 0].permute(1, 2, 0), seen)

    def log_prob_missing(self, x: Tensor, observed: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """log p(x_missing | x_observed) of each image, exact in the order of `completion`, nats, shape (B,).

        Arguments:
            x: whole images in [0, 1], shape (B, C, H, W).
            observed: bool, of a shape that broadcasts to x.
            condition: one row per image where the spec has a condition, else None.

        Raises:
            DataError: images, masks or conditions of another shape or kind than the spec's; a pixel of which
                some channels are observed and some not.
        """
        observed = self.check_completion(x, observed, n=1)
        if not self._whole_pixels(observed):
            raise DataError("observed: found a part of a pixel's channels, wanted all of them or none")
        ranks = self._completion_ranks(observed.all(dim=1))
        parts = []
        with self.evaluation():
            for some in torch.arange(len(x), device=x.device).split(self._chunk):
                chosen = None if condition is None else condition[some]
                log_prob = self._log_prob_map(x[some], chosen, ranks[..., some])
                parts.append((log_prob * ~observed[some]).flatten(1).sum(dim=1))
            return torch.cat(parts)

    def completion(
        self,
        x: Tensor,
        observed: Tensor,
        *,
        n: int = 1,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        particles: int = PARTICLES,
        retained: bool = False,
    ) -> Completion:
        """Missing sub-pixels given *any* observed ones, exactly and without particles.

        Masks may differ from image to image. Only where some channels of a pixel are observed and others not
        is it `Autoregressive.completion`, by particles in the order of the model. Arguments and errors as
        there.
        """
        observed = self.check_completion(x, observed, n=n, particles=particles)
        if not self._whole_pixels(observed):
            return super().completion(
                x,
                observed,
                n=n,
                condition=condition,
                generator=generator,
                particles=particles,
                retained=retained,
            )
        self.condition_vectors(condition, len(x))
        rows = torch.arange(len(x), device=x.device).repeat(n)  # completion by completion
        parts = []
        with self.evaluation():
            for some in rows.split(self._chunk):
                chosen = None if condition is None else condition[some]
                uniform = self.uniform(len(some), *self.spec.shape, generator=generator)
                parts.append(self._complete_exactly(x[some], observed[some], chosen, uniform))
        return Completion.joined(parts, n)

    def _complete_exactly(
        self, x: Tensor, observed: Tensor, condition: Tensor | None, uniform: Tensor
    ) -> Completion:
        """One completion of each image; observed pixels at once, then missing ones, pixel by pixel."""
        batch, top = len(x), self.spec.levels - 1
        ranks = self._completion_ranks(observed[:, 0])
        turns = ranks.flatten(0, 1).argsort(dim=0)  # (H·W, B), pixels in their turn
        image = torch.arange(batch, device=x.device)
        levels = (torch.where(observed, x, 0) * top).round()
        values = (levels / top).to(next(self.parameters()).dtype)

        cache = LocallyMaskedCache(self.network, batch, ranks, self.condition_vectors(condition, batch))
        log_mass = _log_masses(cache.begin(values), levels)
        log_observed = (log_mass * observed).flatten(1).sum(dim=1)

        values, seen, numbers = (t.flatten(2) for t in (values, observed, uniform))  # (B, C, H·W)
        for turn in range(int(seen[:, 0].sum(dim=1).min()), len(turns)):
            for channel in range(self.spec.channels):
                place = image, channel, turns[turn]
                drawn = inverse_cdf(cache.logits_at(turn, channel), numbers[place]).to(values.dtype) / top
                values[place] = torch.where(seen[place], values[place], drawn)
                cache.put_at(channel, values[place])
        images = torch.where(observed, x, values.view(x.shape).to(x.dtype))
        one = torch.ones(1, batch, device=x.device)
        return Completion(images[None], log_observed[None], one, one.long())

    @property
    def _chunk(self) -> int:
        return max(1, min(SAMPLE_CHUNK, SCORE_LOGITS // (self.spec.levels * self.spec.dimensions)))

    @staticmethod
    def _whole_pixels(observed: Tensor) -> bool:
        return torch.equal(observed.all(dim=1), observed.any(dim=1))

    def _ranks(self, order: str | Order | None = None) -> Tensor:
        size = self.spec.height, self.spec.width
        chosen = self.order if order is None else an_order(order, *size)
        return ranks(chosen, *size)[..., None].to(self.device)

    def _draw_ranks(self, generator: torch.Generator) -> Tensor:
        """The order of an update, (H, W, 1)."""
        height, width, device = self.spec.height, self.spec.width, generator.device
        chosen = torch.randint(len(self._orders), (), generator=generator, device=device)
        found = self._ranks(self._orders[int(chosen)])
        if self._hidden == 0:
            return found
        practice, single, share, *cuts = torch.rand(7, generator=generator, device=device).tolist()
        if practice >= self._hidden:
            return found
        if single < 0.5:
            hidden = torch.rand(height, width, generator=generator, device=device) < share
        else:
            (top, bottom), (left, right) = sorted(cuts[:2]), sorted(cuts[2:])
            row, column = torch.arange(height)[:, None] / height, torch.arange(width) / width
            hidden = (row >= top) & (row < bottom) & (column >= left) & (column < right)
        return observed_first(found, ~hidden[..., None].to(self.device))

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self._log_prob_map(x, condition, self._ranks()).flatten(1).sum(dim=1)

    def _log_prob_map(self, x: Tensor, condition: Tensor | None, ranks: Tensor) -> Tensor:
        """log p of each sub-pixel given all earlier ones, nats, (B, C, H, W)."""
        self.check_images(x)
        top = self.spec.levels - 1
        levels = (x * top).round()
        logits = self.network(levels / top, ranks, self.condition_vectors(condition, len(x)))
        # Under autocast the logits are bfloat16; a softmax in it would lose tenths of a nat.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return _log_masses(logits, levels)


def _log_masses(logits: Tensor, levels: Tensor) -> Tensor:
    """log p of levels (B, C, H, W) by logits (B, K, C, H, W) whose memory is that of (H, W, B, C, K)."""
    rows, target = logits.permute(3, 4, 0, 2, 1), levels.long().permute(2, 3, 0, 1)
    nats = F.cross_entropy(rows.flatten(0, -2), target.flatten(), reduction="none")
    return -nats.view(target.shape).permute(2, 3, 0, 1)
