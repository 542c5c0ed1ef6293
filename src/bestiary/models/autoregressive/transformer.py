"""Transformer: sequences of symbols, each from all earlier ones by attention."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from bestiary.config import Ge, Gt, Le, Lt, Search, check_count
from bestiary.data.specs import SequenceSpec, Spec
from bestiary.distributions.observation import Treatment
from bestiary.errors import DataError, OptionError
from bestiary.models.autoregressive.base import PARTICLES, SAMPLE_CHUNK, SCORE_LOGITS
from bestiary.models.autoregressive.chunks import (
    complete_in_chunks,
    draw_in_chunks,
    split_pairs,
)
from bestiary.models.autoregressive.completion import Completion
from bestiary.models.autoregressive.drawing import Cache, Progress
from bestiary.models.base import Clock, Completer, Likelihood, Model, Move, Player, Sampler, Step
from bestiary.models.inputs import condition_dim, condition_vectors, observed_like
from bestiary.models.schedules import linear_tail
from bestiary.networks.causal_attention import CausalTransformer, TransformerCache
from bestiary.networks.orders import raster


class Transformer(Model, Sampler, Likelihood, Completer):
    """Exact likelihood of sequences, as a product of softmax distributions, by causal attention.

    log p(x | c) = Σ_t log p(x_t | x_1 … x_{t−1}, c), with layers x + softmax(Q·Kᵀ/√d)·V of the earlier
    positions and x + W₂·relu(W₁·x).

    Sequences are int64, (B, length), with the V = `spec.vocabulary` symbols 0 … V−1. Every position counts,
    padding too: what follows an end symbol has to be learned like everything else, and costs next to
    nothing once it is, so that the masses of all sequences sum to one. The condition c is a class, one-hot,
    or a vector; its embedding is added to every position. Likelihoods are nats, and bits/dim are bits a
    position.

    References:
        *Attention Is All You Need* (Vaswani et al., 2017), arXiv 1706.03762: the base model of table 3;
        layer norm before each part and at the end as in *Language Models are Unsupervised Multitask
        Learners* (Radford et al., 2019), section 2.3, which trains without care for the first updates.

    Departures from the paper: a decoder alone, which attends to no encoder, since there is nothing to
    translate. No label smoothing: what is trained would not be a likelihood. Dropout as in the text, on what
    each part adds and on the embeddings; the published code has it in two more places. A batch is a number of
    sequences; the paper's is about 25,000 symbols, which for words of 21 symbols is the default. The last
    weights are used, not the mean of the last five checkpoints.

    Arguments:
        spec: sequences of at least two symbols; `condition` may be none, classes or a vector.
        layers: N, of attention and feed-forward network.
        heads: h, which divides model_dim.
        model_dim: d_model, numbers a position.
        feedforward_dim: d_ff, hidden units of the feed-forward networks.
        dropout: share that is set to zero in training.
        learning_rate: of Adam where it is highest, after `warmup` updates; the paper's is
            1/√(d_model · warmup).
        warmup: updates in which the learning rate rises in a line; then it falls as 1/√update.
        anneal: share of the budget, at its end, over which the learning rate also falls in a line to zero.
        batch_size: sequences per update.

    Example:
        >>> model = Transformer(SequenceSpec(21, 27), layers=4, model_dim=128)
        >>> x = model.sample(16, generator=torch.Generator().manual_seed(0))
    """

    spec: SequenceSpec

    def __init__(
        self,
        spec: Spec,
        *,
        layers: Annotated[int, Ge(1), Search(2, 12)] = 6,
        heads: Annotated[int, Ge(1)] = 8,
        model_dim: Annotated[int, Ge(1), Search(64, 1024, log=True)] = 512,
        feedforward_dim: Annotated[int, Ge(1), Search(128, 4096, log=True)] = 2048,
        dropout: Annotated[float, Ge(0), Lt(1), Search(0.0, 0.3)] = 0.1,
        learning_rate: Annotated[float, Gt(0), Search(1e-4, 5e-3, log=True)] = (512 * 4000) ** -0.5,
        warmup: Annotated[int, Ge(1)] = 4000,
        anneal: Annotated[float, Ge(0), Le(1)] = 0.0,
        batch_size: Annotated[int, Ge(1)] = 1200,
    ) -> None:
        if not isinstance(spec, SequenceSpec):
            found = type(spec).__name__
            raise DataError(f"spec: Transformer is a model of sequences, found {found}, wanted SequenceSpec")
        if min(spec.length, spec.vocabulary - 1) < 1:
            raise DataError(
                f"spec: found sequences of {spec.length} symbols out of {spec.vocabulary}, wanted at least 1"
                " out of 2"
            )
        if model_dim % heads:
            raise OptionError(f"heads: found {heads}, wanted a divisor of model_dim, which is {model_dim}")
        super().__init__(spec, batch_size=batch_size)
        self.network = CausalTransformer(
            spec.vocabulary,
            spec.length,
            layers=layers,
            heads=heads,
            model_dim=model_dim,
            feedforward_dim=feedforward_dim,
            dropout=dropout,
            condition_dim=condition_dim(spec),
        )
        self._optimizer: Callable[..., Optimizer] = partial(
            Adam, lr=learning_rate, betas=(0.9, 0.98), eps=1e-9, fused=True
        )
        self._schedule = partial(_schedule, warmup=warmup, anneal=anneal)

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """Two layers of two heads and a few numbers a position."""
        return cls(
            spec,
            layers=2,
            heads=2,
            model_dim=16,
            feedforward_dim=32,
            learning_rate=1e-2,
            warmup=2,
            batch_size=16,
        )

    def players(self) -> Mapping[str, Player]:
        """One, "model"."""
        return {"model": Player(list(self.parameters()), self._optimizer, self._schedule)}

    def moves(self, clock: Clock) -> Sequence[Move]:
        """One: maximum likelihood, every symbol predicted from the true ones before it."""
        return [Move("model", self.cost)]

    def cost(self, step: Step) -> Mapping[str, Tensor]:
        """Mean of −log p(x) over the batch, in nats, and the same in bits a position."""
        loss = -self._log_prob(step.x, step.condition).mean()
        return {"loss": loss, "bits_per_dim": loss.detach() / (self.spec.dimensions * math.log(2))}

    @property
    def treatment(self) -> Treatment:
        """Always "mass": the likelihood is that of the symbols themselves."""
        return "mass"

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log masses, up to a constant, of the symbols at every position given those before it.

        Arguments:
            x: sequences, int64, shape (B, length).
            condition: one row per sequence where the spec has a condition, else None.

        Returns:
            shape (B, V, length).

        Raises:
            DataError: sequences or conditions of another shape or kind than the spec's.
        """
        self._check_shape(x)
        self._check_symbols(x)
        logits: Tensor = self.network(x, self._condition(condition, len(x)))
        return logits.transpose(1, 2)

    def cache(self, batch: int, condition: Tensor | None = None) -> Cache:
        """An empty cache for drawing `batch` sequences; its logits are those of `logits`."""
        return TransformerCache(self.network, batch, self._condition(condition, batch))

    def log_prob(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """Exact log mass of each sequence, nats, shape (B,).

        Any number of sequences fits into memory: they are scored in chunks.

        Raises:
            DataError: symbols outside 0 … V−1; sequences or conditions of another shape or kind than the
                spec's.
        """
        self._condition(condition, len(x))
        size = max(1, min(SAMPLE_CHUNK, SCORE_LOGITS // (self.spec.vocabulary * self.spec.length)))
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
        """`n` new sequences, int64, shape (n, length).

        A symbol is the inverse distribution function of its logits at a uniform number. All of these are
        drawn first, so a sequence does not depend on how many are drawn with it, up to the rounding of
        matrix products.

        Arguments:
            n: number of sequences.
            condition: one row per sequence where the spec has a condition, else None.
            generator: source of the uniform numbers.
            temperature: logits are divided by it; below 1, likely symbols become likelier.
            progress: told the share that is done after each position.

        Raises:
            DataError: conditions of another shape or kind than the spec's.
            OptionError: a temperature that is not positive.
        """
        self._condition(condition, n)
        uniform = self.uniform(n, 1, 1, self.spec.length, generator=generator)
        with self.evaluation():
            drawn = draw_in_chunks(
                self.cache,
                raster(1, self.spec.length),
                uniform,
                condition,
                size=SAMPLE_CHUNK,
                temperature=temperature,
                progress=progress,
            )
        return self._from_row(drawn)

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
        """The sequences of `completion`, int64, shape (n, B, length)."""
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
    ) -> Completion:
        """Missing symbols given *any* observed ones, by sequential importance resampling.

        Its `images` are the sequences, int64, shape (n, B, length).

        Arguments:
            x: sequences, int64, shape (B, length); values that are not observed do not matter.
            observed: bool, of a shape that broadcasts to x.
            n: independent completions of each sequence.
            condition: one row per sequence where the spec has a condition, else None.
            generator: of all draws.
            particles: P for each completion; cost and precision grow with it. Where no observed symbol
                comes after a missing one, one is exact and is all that is used.

        Raises:
            DataError: sequences, masks or conditions of another shape or kind than the spec's.
            OptionError: a number of completions or particles below 1.
        """
        observed = self._check_completion(x, observed, n=n, particles=particles)
        self._condition(condition, len(x))
        missing_before = (~observed).cummax(dim=1).values
        if not bool((missing_before & observed).any()):
            particles = 1
        top = self.spec.vocabulary - 1
        images = (torch.where(observed, x, 0) / top)[:, None, None]  # (B, 1, 1, length)
        with self.evaluation():
            found = complete_in_chunks(
                self.cache,
                raster(1, self.spec.length),
                images,
                observed[:, None, None],
                condition,
                n=n,
                particles=particles,
                size=SAMPLE_CHUNK,
                levels=self.spec.vocabulary,
                uniform=lambda count: self.uniform(count, 1, 1, self.spec.length, generator=generator),
                generator=generator,
            )
        return replace(found, images=self._from_row(found.images))

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        logits = self.logits(x, condition)
        # Under autocast the logits are bfloat16; a softmax in it would lose tenths of a nat.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return -F.cross_entropy(logits, x, reduction="none").sum(dim=1)

    def _from_row(self, images: Tensor) -> Tensor:
        """Symbols k, int64, (…, length), from images (…, 1, 1, length) of values k/(V−1)."""
        return (images.flatten(-3) * (self.spec.vocabulary - 1)).round().long()

    def _condition(self, condition: Tensor | None, batch: int) -> Tensor | None:
        return condition_vectors(self.spec, condition, batch, self.network.symbols.weight.dtype)

    def _check_shape(self, x: Tensor) -> None:
        if x.dtype != torch.int64 or x.ndim != 2 or x.shape[1] != self.spec.length:
            found, wanted = f"{x.dtype} of shape {tuple(x.shape)}", f"(B, {self.spec.length})"
            raise DataError(f"x: found {found}, wanted int64 sequences of shape {wanted}")

    def _check_symbols(self, symbols: Tensor) -> None:
        top = self.spec.vocabulary - 1
        if symbols.numel() and not (symbols.min() >= 0 and symbols.max() <= top):
            found = f"{int(symbols.min())} to {int(symbols.max())}"
            raise DataError(f"x: found symbols from {found}, wanted 0 to {top}")

    def _check_completion(self, x: Tensor, observed: Tensor, *, n: int, particles: int) -> Tensor:
        """`observed` in the shape of x."""
        self._check_shape(x)
        check_count("n", n, least=1)
        check_count("particles", particles, least=1)
        shaped = observed_like(x, observed, "sequences")
        self._check_symbols(x[shaped])
        return shaped


def _schedule(clock: Clock, warmup: int, anneal: float) -> float:
    """min(u/w, √(w/u)) at update u of w to warm up (the paper's equation 3), times the line to zero."""
    update = clock.updates.get("model", 0) + 1
    return min(update / warmup, math.sqrt(warmup / update)) * linear_tail(clock, anneal)
