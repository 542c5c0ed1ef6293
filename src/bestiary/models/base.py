"""The page to read first: what a model is, and what the training loop asks of it.

A model is a game. Its *players* are named groups of parameters, each with an optimiser; its *moves* are
the lines of the paper's Algorithm 1, as data: who steps, on which cost, how often. A model trained by
one optimiser is a game with one player. Maximum likelihood, minimax, BEGAN, CycleGAN and AAE differ in
their moves, never in the loop.

What a model can do is declared by the capabilities it inherits (`Sampler`, `Likelihood`, …), never asked
with `hasattr`. Shapes: B batch, C channels, H height, W width, Z latent, P particles. At every public
boundary images are float tensors in [0, 1], shape (B, C, H, W), and likelihoods are nats per example.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bestiary.config import check_count, plain, resolve
from bestiary.data.specs import Spec
from bestiary.data.splits import Batch, Data, Split
from bestiary.distributions.observation import Treatment
from bestiary.errors import BestiaryError
from bestiary.randomness import normal_like, uniform_like


@dataclass
class Clock:
    """What training has spent so far. The loop advances it; everything else reads it.

    Attributes:
        examples: real examples drawn by moves.
        rounds: passes through the model's moves.
        updates: optimiser steps per player.
        seconds: time spent in moves, retained work only.
        flops: floating-point operations, counted once per move and multiplied.
        epoch_size: examples in one epoch, or None for an endless source.
        progress: share of the budget that is spent, 0 to 1.
    """

    examples: int = 0
    rounds: int = 0
    updates: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    flops: float = 0.0
    epoch_size: int | None = None
    progress: float = 0.0

    @property
    def epochs(self) -> float:
        """Passes through the training data, as a fraction."""
        return self.examples / self.epoch_size if self.epoch_size else 0.0


def constant(clock: Clock) -> float:
    """The schedule that leaves the learning rate alone."""
    return 1.0


@dataclass(frozen=True)
class Player:
    """A named group of parameters that moves together, with its optimiser.

    Attributes:
        parameters: whose values a step changes; groups may overlap.
        optimizer: makes the optimiser from the parameters, e.g. `partial(Adam, lr=1e-4, fused=True)`.
        schedule: factor on the learning rate, a function of the clock.
        ema: half-life of an exponential moving average of the parameters, in examples; None for none.
    """

    parameters: Sequence[nn.Parameter]
    optimizer: Callable[..., Optimizer]
    schedule: Callable[[Clock], float] = constant
    ema: float | None = None


@dataclass(frozen=True)
class Step:
    """What a cost may look at.

    Attributes:
        size: number of examples in this step, also where no real data is drawn.
        clock: what training has spent so far.
        generator: seeded from (seed, round, move, micro-step), the same on every rank; costs take their
            noise from `normal` and `uniform`, so that ranks share out what one process would draw.
        optimizers: read-only view; an unrolled game starts from the discriminator's own moments.
        batch: the real examples, or None for a move with `batch="none"`.
        rank, ranks: which share of a batch this process has, and how many processes there are.
    """

    size: int
    clock: Clock
    generator: torch.Generator
    optimizers: Mapping[str, Optimizer]
    batch: Batch | None = None
    rank: int = 0
    ranks: int = 1

    @property
    def x(self) -> Tensor:
        """Real examples, shape (B, *spec.shape).

        Raises:
            BestiaryError: the move draws no data (`batch="none"`).
        """
        if self.batch is None:
            raise BestiaryError("step.x: this move draws no real data, wanted Move(batch='new' or 'same')")
        return self.batch.x

    @property
    def condition(self) -> Tensor | None:
        """Conditions of the real examples, or None."""
        return None if self.batch is None else self.batch.condition

    def normal(self, *shape: int) -> Tensor:
        """Standard normal noise for every example, shape (size, *shape)."""
        return self._share(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Noise uniform on [0, 1) for every example, shape (size, *shape)."""
        return self._share(torch.rand, shape)

    def _share(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        device = self.generator.device
        whole = draw(self.size * self.ranks, *shape, generator=self.generator, device=device)
        return whole[self.rank * self.size : (self.rank + 1) * self.size]


@dataclass(frozen=True)
class Move:
    """One line of a paper's Algorithm 1, as data.

    Attributes:
        player: whose parameters step.
        cost: `{"loss": scalar to minimise, other names: scalars for the log}`.
        times: updates in a row (n_critic).
        every: only on every k-th round.
        batch: "new" draws real data, "same" reuses the batch of the move before, "none" draws none.
        after: projection or controller, run after each update: weight clipping, BEGAN's k.
    """

    player: str
    cost: Callable[[Step], Mapping[str, Tensor]]
    times: int = 1
    every: int = 1
    batch: Literal["new", "same", "none"] = "new"
    after: Callable[[], None] | None = None


class Model(nn.Module, ABC):
    """A generative model: networks and the moves of its training game.

    A subclass takes `spec` and keyword-only settings, and passes `batch_size` on. The settings of every
    instance are checked against the constructor's signature and kept, with defaults filled in, in
    `settings`: they are what a run's config file holds.

    Attributes:
        spec: what one example is.
        settings: the resolved keyword arguments of the constructor.
        batch_size: examples per update.
        max_grad_norm: the gradient of each update is clipped to this norm; None for no clipping.
        bfloat16_safe: whether costs are safe under bfloat16 autocast.
        batch_coupled: whether a cost looks at several examples at once in other ways than batch norm; such
            a model refuses to be trained in parts of a batch, one after the other or on several ranks.
        compiled: names of submodules that `torch.compile` was measured to make enough faster.
    """

    spec: Spec
    settings: dict[str, Any]
    batch_size: int
    max_grad_norm: float | None = None
    bfloat16_safe: bool = True
    batch_coupled: bool = False
    compiled: tuple[str, ...] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the settings against the constructor's signature and keep them.

        Raises:
            OptionError: a setting that does not exist, or a value that is not valid.
        """
        model = super().__new__(cls)
        if args or kwargs:  # copy.deepcopy calls without arguments and restores `settings` itself
            named = {name: value for name, value in kwargs.items() if name != "spec"}
            resolved = resolve(cls, named, owner=cls.__name__, strict=True)
            object.__setattr__(model, "settings", plain(resolved))
        return model

    def __init__(self, spec: Spec, *, batch_size: int) -> None:
        super().__init__()
        self.spec = spec
        self.batch_size = batch_size

    @abstractmethod
    def players(self) -> Mapping[str, Player]:
        """The parameter groups that move, by name: the same parameters before `initialise` and after."""

    @abstractmethod
    def moves(self, clock: Clock) -> Sequence[Move]:
        """One round of the training game."""

    def initialise(self, batch: Batch) -> None:
        """Data-dependent initialisation: called once, before optimisers exist."""

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """The smallest honest instance, for tests; subclasses shrink their networks here."""
        kind: Any = cls
        model: Self = kind(spec)
        return model

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        tensor = next(chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def parameter_count(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters())

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Evaluation mode without gradients (batch norm by its moving averages, no dropout)."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, training in modes.items():
                module.training = training

    def normal(self, n: int, *shape: int, generator: torch.Generator | None) -> Tensor:
        """Standard normal noise on the model's device, shape (n, *shape), from the caller's generator."""
        check_count("n", n)
        return normal_like(torch.empty(n, *shape, device=self.device), generator)

    def uniform(self, n: int, *shape: int, generator: torch.Generator | None) -> Tensor:
        """Uniform noise on [0, 1) on the model's device, shape (n, *shape), from the caller's generator."""
        check_count("n", n)
        return uniform_like(torch.empty(n, *shape, device=self.device), generator)


class Sampler(ABC):
    """Capability: new examples."""

    @abstractmethod
    def sample(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """`n` new examples, shape (n, *spec.shape); images in [0, 1].

        `condition` has one row per example where the spec has a condition.
        """


class _Measured(ABC):
    """Shared by both kinds of likelihood: how the data are treated, which is part of its name."""

    spec: Spec

    @property
    @abstractmethod
    def treatment(self) -> Treatment:
        """What the number is a likelihood of.

        "mass": log mass of the L-level image. "dequantised": E_u log p((k+u)/L) − D·log L, a lower bound
        on such a mass. "density": of a point in R^D. "grey Bernoulli": the Bernoulli formula on grey
        levels, which is the likelihood of nothing and has no bits/dim.
        """


class Likelihood(_Measured):
    """Capability: exact likelihood."""

    @abstractmethod
    def log_prob(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """Exact log-likelihood of each example, nats, shape (B,)."""


class LikelihoodBound(_Measured):
    """Capability: lower bounds on the log-likelihood."""

    @abstractmethod
    def elbo(
        self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Evidence lower bound of each example, nats, shape (B,)."""

    @abstractmethod
    def log_prob_bound(
        self, x: Tensor, *, particles: int, condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:  # fmt: skip
        """Importance-weighted bound with P particles (Burda et al., 2016), nats, shape (B,).

        P = 1 is the ELBO; the bound rises with P towards log p(x).
        """


class LatentLikelihood(_Measured):
    """Capability: p(z) and p(x|z) at hand, for estimates of log p(x) that ask the decoder alone."""

    latent_dim: int

    @abstractmethod
    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(z) of codes (…, Z), nats, shape (…); differentiable by z."""

    @abstractmethod
    def draw_codes(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """z ~ p(z), shape (n, Z)."""

    @abstractmethod
    def log_likelihood(self, z: Tensor, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """log p(x|z) of codes (B, Z) and examples (B, *spec.shape), nats, shape (B,); differentiable by z."""


class Encoder(ABC):
    """Capability: an accessible representation."""

    @abstractmethod
    def encode(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """The posterior mean of each example (top layer of a hierarchy), shape (B, Z)."""

    @abstractmethod
    def decode(self, z: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """The mean example of each code, shape (B, *spec.shape)."""

    def reconstruct(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """`decode(encode(x))`."""
        return self.decode(self.encode(x, condition=condition), condition=condition)


class Completer(ABC):
    """Capability: missing pixels."""

    @abstractmethod
    def complete(
        self, x: Tensor, observed: Tensor, *, n: int = 1, condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:  # fmt: skip
        """Draw what is missing given *any* observed pixels, shape (n, B, *spec.shape).

        `observed` is a bool tensor that broadcasts to x; observed values come back unchanged.
        """


class Translator(ABC):
    """Capability: image to image."""

    @abstractmethod
    def translate(self, x: Tensor, to: Literal["A", "B"] = "B") -> Tensor:
        """The image in the other domain, shape (B, *spec of that domain)."""


class Critic(ABC):
    """Capability: realness as the discriminator sees it."""

    @abstractmethod
    def score(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """The discriminator's raw output (logit or critic value), shape (B,); larger is more real."""


class ClosedForm(Model):
    """Capability: solved, not trained. It has no players and no moves."""

    @abstractmethod
    def fit(self, data: Split | Data, *, generator: torch.Generator | None = None) -> None:
        """Solve for the parameters on a split; of a data set on its training split."""

    def players(self) -> Mapping[str, Player]:
        """None: nothing is stepped."""
        return {}

    def moves(self, clock: Clock) -> Sequence[Move]:
        """None: nothing is stepped."""
        return []


CAPABILITIES: tuple[type, ...] = (
    Sampler, Likelihood, LikelihoodBound, LatentLikelihood, Encoder, Completer, Translator, Critic, ClosedForm
)  # fmt: skip


def capabilities(model: Model | type[Model]) -> tuple[str, ...]:
    """Names of the capabilities that a model declares by inheritance."""
    kind = model if inspect.isclass(model) else type(model)
    return tuple(c.__name__ for c in CAPABILITIES if issubclass(kind, c))
