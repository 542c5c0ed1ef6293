"""What autoregressive models of images share: p(x) = Π p(x_i | x_1 … x_{i−1}), a softmax over levels each.

A subclass gives the logits of all sub-pixels at once (`logits`) and the same logits one at a time
(`cache`); cost, likelihood and sampling follow. The order is row by row from the top left, and R, G, B
within a pixel. Shapes: B batch, C channels, H height, W width, K = `spec.levels`.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.config import check_count
from bestiary.data.specs import ImageSpec, Spec
from bestiary.distributions.observation import Treatment
from bestiary.models.autoregressive.chunks import (
    complete_in_chunks,
    draw_in_chunks,
    split_pairs,
)
from bestiary.models.autoregressive.completion import Completion
from bestiary.models.autoregressive.drawing import Cache, Progress
from bestiary.models.base import Clock, Completer, Likelihood, Model, Move, Sampler, Step
from bestiary.models.inputs import (
    check_examples,
    check_observed,
    check_values,
    condition_vectors,
    image_spec,
)
from bestiary.networks.orders import Order, raster

SAMPLE_CHUNK = 256  # images drawn together: more cost memory and gain no speed
SCORE_CHUNK = 64  # images scored together, or fewer: their logits are to stay below
SCORE_LOGITS = 2**24  # numbers, 64 MiB
PARTICLES = 16  # of a completion


class Autoregressive(Model, Sampler, Likelihood, Completer):
    """A product of conditional distributions over the K levels of each sub-pixel."""

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
    def order(self) -> Order:
        """In which order pixels are drawn: what `logits` of a pixel may depend on. By default, raster."""
        return raster(self.spec.height, self.spec.width)

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
        check_values(self.spec, x)
        self.condition_vectors(condition, len(x))
        size = max(1, min(SCORE_CHUNK, SCORE_LOGITS // (self.spec.levels * self.spec.dimensions)))
        with self.evaluation():
            return torch.cat([self._log_prob(*pair) for pair in split_pairs(x, condition, size)])

    def sample(
        self,
        n: int,
        *,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        progress: Progress | None = None,
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
            progress: told the share that is done after each pixel.

        Raises:
            DataError: conditions of another shape or kind than the spec's.
            OptionError: a temperature that is not positive.
        """
        self.condition_vectors(condition, n)
        uniform = self.uniform(n, *self.spec.shape, generator=generator)
        with self.evaluation():
            return draw_in_chunks(
                self.cache,
                self.order,
                uniform,
                condition,
                size=SAMPLE_CHUNK,
                temperature=temperature,
                progress=progress,
            )

    def complete(
        self,
        x: Tensor,
        observed: Tensor,
        *,
        n: int = 1,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        particles: int = PARTICLES,
    ) -> Tensor:
        """The images of `completion`, shape (n, B, C, H, W)."""
        return self.completion(
            x, observed, n=n, condition=condition, generator=generator, particles=particles
        ).images

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
        """Missing sub-pixels given *any* observed ones, by sequential importance resampling.

        Arguments:
            x: images in [0, 1], shape (B, C, H, W); values that are not observed do not matter, nan is fine.
            observed: bool, of a shape that broadcasts to x.
            n: independent completions of each image.
            condition: one row per image where the spec has a condition, else None.
            generator: of all draws.
            particles: P for each completion; cost and precision grow with it. Where no observed sub-pixel
                comes after a missing one, one is exact and is all that is used.
            retained: whether x is whole and the first of the particles, which always lives on: then p(x) over
                exp(log_observed) is an unbiased estimate of the probability that a completion is x.

        Raises:
            DataError: images, masks or conditions of another shape or kind than the spec's.
            OptionError: a number of completions or particles below 1.
        """
        observed = self.check_completion(x, observed, n=n, particles=particles)
        self.condition_vectors(condition, len(x))
        if not self.looks_ahead(observed):
            particles = 1
        with self.evaluation():
            return complete_in_chunks(
                self.cache,
                self.order,
                x,
                observed,
                condition,
                n=n,
                particles=particles,
                size=SAMPLE_CHUNK,
                levels=self.spec.levels,
                uniform=lambda count: self.uniform(count, *self.spec.shape, generator=generator),
                generator=generator,
                retained=retained,
            )

    def check_completion(self, x: Tensor, observed: Tensor, *, n: int, particles: int = 1) -> Tensor:
        """`observed` in the shape of x.

        Raises:
            DataError, OptionError: as `completion` says.
        """
        check_count("n", n, least=1)
        check_count("particles", particles, least=1)
        return check_observed(self.spec, x, observed)

    def check_images(self, x: Tensor) -> None:
        """Raise a `DataError` unless x is a float batch of the spec's shape."""
        check_examples(self.spec, x)

    def condition_vectors(self, condition: Tensor | None, batch: int) -> Tensor | None:
        """Conditions as float vectors (B, d), see `bestiary.models.inputs.condition_vectors`."""
        return condition_vectors(self.spec, condition, batch, next(self.parameters()).dtype)

    def looks_ahead(self, observed: Tensor) -> bool:
        """Whether any observed sub-pixel comes after a missing one in the order of drawing.

        Arguments:
            observed: bool, (B, C, H, W).
        """
        rows, columns = torch.tensor(self.order, device=observed.device).unbind(1)
        in_order = observed[:, :, rows, columns].transpose(1, 2).flatten(1)  # (B, H·W·C)
        missing_before = (~in_order).cummax(dim=1).values
        return bool((missing_before & in_order).any())

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        top = self.spec.levels - 1
        levels = (x * top).round()  # k of x = k/(K−1)
        logits = self.logits(levels / top, condition).permute(0, 3, 4, 2, 1)  # (B, H, W, C, K)
        # Under autocast the logits are bfloat16; a softmax in it would lose tenths of a nat.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target = levels.long().permute(0, 2, 3, 1)  # (B, H, W, C)
        nats = F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none")
        return -nats.view(len(x), -1).sum(dim=1)
