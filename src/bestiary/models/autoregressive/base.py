"""What autoregressive models of images share: p(x) = Π p(x_i | x_1 … x_{i−1}), a softmax over levels each.

A subclass gives the logits of all sub-pixels at once (`logits`) and the same logits one at a time
(`cache`); cost, likelihood and sampling follow. The order is row by row from the top left, and R, G, B
within a pixel. Shapes: B batch, C channels, H height, W width, K = `spec.levels`.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.data.specs import Classes, ImageSpec, Spec
from bestiary.distributions.observation import Treatment
from bestiary.errors import DataError, OptionError
from bestiary.models.base import Clock, Likelihood, Model, Move, Sampler, Step, image_spec

SAMPLE_CHUNK = 256  # images drawn together: more cost memory and gain no speed
SCORE_CHUNK = 64  # images scored together, or fewer: their logits are to stay below
SCORE_LOGITS = 2**24  # numbers, 64 MiB


class Cache(Protocol):
    """The logits of a batch of images that is being drawn, each activation computed once."""

    def start_row(self) -> None:
        """Begin the next row; the row above it, if any, is complete."""

    def logits(self, column: int, channel: int) -> Tensor:
        """Logits (B, K) of one sub-pixel of the current row, given all that were drawn before it."""

    def put(self, column: int, channel: int, values: Tensor) -> None:
        """Set that sub-pixel to `values` in [0, 1], shape (B,)."""


def linear_tail(clock: Clock, share: float) -> float:
    """A schedule: 1, then a straight line to 0 over the last `share` of the budget; 0 for none."""
    return 1.0 if share == 0 else min(1.0, (1 - clock.progress) / share)


def inverse_cdf(logits: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """The smallest level whose cumulative probability exceeds a uniform number.

    Arguments:
        logits: shape (B, K).
        uniform: numbers in [0, 1), shape (B,).
        temperature: logits are divided by it.

    Returns:
        levels, int64, shape (B,).
    """
    cumulative = torch.softmax(logits / temperature, dim=1).cumsum(dim=1)
    threshold = uniform.to(logits.dtype) * cumulative[:, -1]  # the sum is 1 up to rounding only
    levels = torch.searchsorted(cumulative, threshold[:, None], right=True)[:, 0]
    return levels.clamp_(max=logits.shape[1] - 1)


class Autoregressive(Model, Sampler, Likelihood):
    """A product of conditional distributions over the K levels of each sub-pixel, in raster order."""

    spec: ImageSpec

    def __init__(self, spec: Spec, *, batch_size: int) -> None:
        super().__init__(image_spec(spec, type(self).__name__), batch_size=batch_size)

    @abstractmethod
    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log masses, up to a constant, of the levels of every sub-pixel given those before it.

        Arguments:
            x: images in [0, 1], shape (B, C, H, W).
            condition: one row per image where the spec has a condition, else None.

        Returns:
            shape (B, K, C, H, W).

        Raises:
            DataError: images or conditions of another shape or kind than the spec's.
        """

    @abstractmethod
    def cache(self, batch: int, condition: Tensor | None = None) -> Cache:
        """An empty cache for drawing `batch` images; its logits are those of `logits`."""

    @property
    def treatment(self) -> Treatment:
        """Always "mass": the likelihood is that of the K-level image itself."""
        return "mass"

    def moves(self, clock: Clock) -> Sequence[Move]:
        """One: maximum likelihood, every sub-pixel predicted from the true ones before it."""
        return [Move("model", self.cost)]

    def cost(self, step: Step) -> Mapping[str, Tensor]:
        """Mean of −log p(x) over the batch, in nats, and the same in bits/dim."""
        loss = -self._log_prob(step.x, step.condition).mean()
        return {"loss": loss, "bits_per_dim": loss.detach() / (self.spec.dimensions * math.log(2))}

    def log_prob(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """Exact log mass of each image, nats, shape (B,); x is rounded to the nearest level.

        Any number of images fits into memory: they are scored in chunks.

        Raises:
            DataError: images outside [0, 1]; images or conditions of another shape or kind than the spec's.
        """
        self.condition_vectors(condition, len(x))
        if x.numel() and not (x.min() >= 0 and x.max() <= 1):
            raise DataError(f"x: found values from {x.min():g} to {x.max():g}, wanted images in [0, 1]")
        size = max(1, min(SCORE_CHUNK, SCORE_LOGITS // (self.spec.levels * self.spec.dimensions)))
        chunks = torch.split(x, size)
        conditions = [None] * len(chunks) if condition is None else torch.split(condition, size)
        return torch.cat([self._log_prob(*pair) for pair in zip(chunks, conditions, strict=True)])

    def sample(
        self,
        n: int,
        *,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """`n` new images in [0, 1], shape (n, C, H, W).

        A sub-pixel is the inverse distribution function of its logits at a uniform number. All of these
        are drawn first, so an image does not depend on how many are drawn with it, up to the rounding
        of matrix products.

        Arguments:
            n: number of images.
            condition: one row per image where the spec has a condition, else None.
            generator: source of the uniform numbers, shape (n, C, H, W).
            temperature: logits are divided by it; below 1, likely levels become likelier.

        Raises:
            DataError: conditions of another shape or kind than the spec's.
            OptionError: a temperature that is not positive.
        """
        if not temperature > 0:
            raise OptionError(f"temperature: found {temperature}, wanted a number > 0")
        self.condition_vectors(condition, n)
        uniform = self.uniform(n, *self.spec.shape, generator=generator)
        noise = torch.split(uniform, SAMPLE_CHUNK)
        conditions = [None] * len(noise) if condition is None else torch.split(condition, SAMPLE_CHUNK)
        with self.evaluation():
            drawn = [self._draw(*pair, temperature) for pair in zip(noise, conditions, strict=True)]
        return torch.cat(drawn)

    def check_images(self, x: Tensor) -> None:
        """Raise a `DataError` unless x is a float batch of the spec's shape."""
        if x.shape[1:] != self.spec.shape or not x.is_floating_point():
            wanted = ", ".join(map(str, self.spec.shape))
            found = f"{x.dtype} of shape {tuple(x.shape)}"
            raise DataError(f"x: found {found}, wanted float images of shape (B, {wanted})")

    def condition_vectors(self, condition: Tensor | None, batch: int) -> Tensor | None:
        """Conditions as float vectors (B, d): classes one-hot, vectors as they are; None without any.

        Raises:
            DataError: conditions that are missing, not expected, or of another shape or kind.
        """
        kind, dtype = self.spec.condition, next(self.parameters()).dtype
        found = "None" if condition is None else f"{condition.dtype} of shape {tuple(condition.shape)}"
        if kind is None:
            if condition is None:
                return None
            wanted = "None, because the model is unconditional"
        elif isinstance(kind, Classes):
            wanted = f"int64 labels from 0 to {kind.n - 1} of shape ({batch},), one for each image"
            if condition is not None and condition.dtype == torch.int64 and condition.shape == (batch,):
                if ((condition >= 0) & (condition < kind.n)).all():
                    return F.one_hot(condition, kind.n).to(dtype)
                found = f"labels from {condition.min()} to {condition.max()}"
        else:
            wanted = f"float vectors of shape ({batch}, {kind.d}), one for each image"
            shape = (batch, kind.d)
            if condition is not None and condition.is_floating_point() and condition.shape == shape:
                return condition.to(dtype)
        raise DataError(f"condition: found {found}, wanted {wanted}")

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        top = self.spec.levels - 1
        levels = (x * top).round()  # k of x = k/(K−1)
        logits = self.logits(levels / top, condition).permute(0, 3, 4, 2, 1)  # (B, H, W, C, K)
        # Under autocast the logits are bfloat16; a softmax in it would lose tenths of a nat.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target = levels.long().permute(0, 2, 3, 1)  # (B, H, W, C)
        nats = F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none")
        return -nats.view(len(x), -1).sum(dim=1)

    def _draw(self, uniform: Tensor, condition: Tensor | None, temperature: float) -> Tensor:
        batch, channels, height, width = uniform.shape
        cache = self.cache(batch, condition)
        noise = iter(uniform.permute(2, 3, 1, 0).flatten(0, 2))  # in the order of drawing
        drawn = []
        for _ in range(height):
            cache.start_row()
            for column in range(width):
                for channel in range(channels):
                    logits = cache.logits(column, channel)
                    levels = inverse_cdf(logits, next(noise), temperature)
                    drawn.append(levels.to(logits.dtype) / (self.spec.levels - 1))
                    cache.put(column, channel, drawn[-1])
        return torch.stack(drawn).view(height, width, channels, batch).permute(3, 2, 0, 1).contiguous()
