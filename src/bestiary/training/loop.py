"""The one training loop. Models say what to minimise; only this file calls `backward` and `step`."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from bestiary.allocator import keep_freed_memory
from bestiary.data.order import BatchOrder
from bestiary.data.splits import Batch, Split
from bestiary.errors import BestiaryError, OptionError
from bestiary.models.base import Clock, Model, Move, Player, Step
from bestiary.randomness import derive_seed, forked_randomness
from bestiary.training.budget import Budget
from bestiary.training.ema import Averages
from bestiary.training.flops import FlopCount
from bestiary.training.runtime import Runtime

# A cost this many times larger than anything of the first updates is no longer learning anything.
_DIVERGENCE = 1e6
_FIRST_UPDATES = 20
# The norm of a gradient is a pass over all of it: at every tenth round it costs next to nothing.
_ROUNDS_PER_NORM = 10
# Devices other than the CPU run ahead of Python: their costs are looked at this many at a time, or after so
# many seconds, so that the clock counts work that is done, and not work that was asked for.
_COSTS_IN_FLIGHT = 64
_SECONDS_IN_FLIGHT = 0.01
# Dropout and whatever else draws from torch's global state sees other numbers than `Step.generator`, of whose
# seed the generator of the CPU takes the lower 32 bits alone.
_GLOBAL = 0x2545F491
# Where the errors of `torch.compile` are defined, which take a second to import.
_COMPILER = ("torch._dynamo", "torch._inductor")


@dataclass(frozen=True)
class Outcome:
    """How a training ended; a diverged one is a result too, with its reason."""

    status: Literal["finished", "stopped", "diverged"]
    reason: str = ""


class DivergedError(Exception):
    """A cost or a parameter that is not finite any more, or has run away."""


Observer = Callable[["Training"], None]


class _Cost(NamedTuple):
    """A cost that was not looked at yet, and when it was met."""

    player: str
    update: int
    round: int
    examples: int
    value: Tensor


class Training:
    """A model in training: its optimisers, averages and clock, and the loop that moves them.

    Arguments:
        model: placed on the runtime's device, and initialised from the data's first batch.
        source: the training split.
        budget: when to stop.
        seed: of batch order and of everything random inside moves.
        runtime: device and precision.
        accumulate: the number of parts that each update's batch is computed in, to save memory; batch norm
            then sees a part at a time.

    Attributes:
        clock: what has been spent.
        terms: sums and counts of the costs' named terms since they were last taken by `take_terms`.
        between_rounds: whether observers are looking, so that an error is theirs and the training is whole.
    """

    def __init__(
        self, model: Model, source: Split, *, budget: Budget, seed: int, runtime: Runtime, accumulate: int = 1
    ) -> None:
        _check_parts(model, accumulate, runtime.ranks.size)
        self.model, self.source, self.budget, self.seed, self.runtime = model, source, budget, seed, runtime
        self.accumulate = accumulate
        self.clock = Clock(epoch_size=None if source.endless else len(source))
        self._order = None if source.endless else BatchOrder(len(source), seed)
        keep_freed_memory()
        runtime.place(model)
        with forked_randomness(derive_seed(seed, 0)), model.evaluation():
            model.initialise(self._draw(0, model.batch_size, derive_seed(seed, 0)))
        self.players: Mapping[str, Player] = model.players()
        budget.check(endless=source.endless, players=self.players)
        self.optimizers: dict[str, Optimizer] = {
            name: player.optimizer(list(player.parameters)) for name, player in self.players.items()
        }
        self._learning_rates = {n: [g["lr"] for g in o.param_groups] for n, o in self.optimizers.items()}
        self._parameters = list(model.parameters())
        self._owned = {name: {id(p) for p in player.parameters} for name, player in self.players.items()}
        self.averages = Averages(model, self.players)
        self.clock.updates = dict.fromkeys(self.players, 0)
        self.flops_per_update: dict[str, float] = {}
        self.terms: dict[str, tuple[Tensor | float, int]] = {}
        self._taken: dict[str, float] = {}
        self._batch_in_hand: tuple[int, int] | None = None
        self._moving: str | None = None
        self.between_rounds = False
        self._in_flight: list[_Cost] = []
        self._looked = 0.0
        self.largest_first_cost: dict[str, float] = {}
        slow = [model.get_submodule(name) for name in model.compiled if runtime.compiled]
        self._fast_forward = {module: torch.compile(module.forward) for module in slow}

    def run(self, observers: Sequence[Observer] = (), stop: Callable[[], str] = lambda: "") -> Outcome:
        """Train until the budget is spent, a cost diverges, or `stop()` gives a reason.

        Observers are called between rounds; what they draw never touches the training's randomness. All
        ranks stop after the same round, whichever of them is asked to.
        """
        self._moving = None
        with forked_randomness(derive_seed(self.seed, 0)):
            try:
                while self.clock.progress < 1:
                    reason = stop()
                    if self.runtime.ranks.largest(float(bool(reason))):
                        return Outcome("stopped", reason or "another rank")
                    self.round()
                    self._watch(observers)
                self._look_at_costs()
            except DivergedError as diverged:
                return Outcome("diverged", str(diverged))
            finally:
                self._unfreeze()
                self.model.eval()
        return Outcome("finished")

    @contextmanager
    def as_loaded(self) -> Iterator[Model]:
        """The model as it would be loaded from a checkpoint of now: averaged weights, evaluation mode."""
        with self.averages.in_place(), self.model.evaluation():
            yield self.model

    def round(self) -> None:
        """One pass through the model's moves."""
        start = time.perf_counter()
        self.model.train()
        self._batch_in_hand = None
        for index, move in enumerate(self.model.moves(self.clock)):
            if self.clock.rounds % move.every == 0:
                for repetition in range(move.times):
                    self._update(move, index, repetition)
        if self._in_flight and time.perf_counter() - self._looked > _SECONDS_IN_FLIGHT:
            self._look_at_costs()
        self.clock.rounds += 1
        self.clock.seconds += time.perf_counter() - start
        self.clock.seconds = self.runtime.ranks.largest(self.clock.seconds)
        self.clock.progress = min(self.budget.spent(self.clock), 1.0)

    def _watch(self, observers: Sequence[Observer]) -> None:
        problem = ""
        self.between_rounds = True
        try:
            for observer in observers:
                observer(self)
        except DivergedError as diverged:  # found out by the rank that saves: the others must know
            problem = str(diverged)
        if self.runtime.ranks.largest(float(bool(problem))):
            raise DivergedError(problem or "found out by another rank")
        self.between_rounds = False

    def _update(self, move: Move, index: int, repetition: int) -> None:
        player, optimizer = self._player(move.player), self.optimizers[move.player]
        self._freeze_all_but(move.player)
        for group, rate in zip(optimizer.param_groups, self._learning_rates[move.player], strict=True):
            group["lr"] = rate * player.schedule(self.clock)
        optimizer.zero_grad(set_to_none=True)
        if move.batch == "new":
            self._batch_in_hand = (
                self.clock.examples,
                derive_seed(self.seed, self.clock.rounds, index, repetition),
            )
            self.clock.examples += self.model.batch_size
        key = f"{index}:{move.player}"
        if key in self.flops_per_update:
            terms = self._gradients(move, index, repetition)
        else:
            with FlopCount() as count:
                terms = self._gradients(move, index, repetition)
            self.flops_per_update[key] = count.total * self.runtime.ranks.size
        gradients = [p.grad for p in player.parameters if p.grad is not None]
        self.runtime.ranks.average([*gradients, *terms.values()])
        if self.clock.rounds % _ROUNDS_PER_NORM == 0:
            terms["gradient_norm"] = torch.nn.utils.get_total_norm(gradients)
        self._note(move.player, terms)
        if self.model.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(player.parameters, self.model.max_grad_norm)
        if self.runtime.device.type == "cpu" or len(self._in_flight) >= _COSTS_IN_FLIGHT:
            self._look_at_costs()
        optimizer.step()
        if move.after is not None:
            with torch.no_grad():
                move.after()
        self.averages.update(move.player, self.model.batch_size)
        self.clock.updates[move.player] += 1
        self.clock.flops += self.flops_per_update[key]

    def _gradients(self, move: Move, index: int, repetition: int) -> dict[str, Tensor]:
        """Fill the gradients of one update; the cost's terms, each a mean over the parts of the batch."""
        try:
            return self._differentiate(move, index, repetition)
        except RuntimeError as error:
            if not (self._fast_forward and type(error).__module__.startswith(_COMPILER)):
                raise
            line = " ".join(str(error).split("\n")[0].split())
            warnings.warn(f"torch.compile does not work here, going on without it: {line}", stacklevel=2)
            self._fast_forward = {}
            self.optimizers[move.player].zero_grad(set_to_none=True)
            return self._differentiate(move, index, repetition)

    def _differentiate(self, move: Move, index: int, repetition: int) -> dict[str, Tensor]:
        ranks = self.runtime.ranks
        means: dict[str, Tensor] = {}
        for part in range(self.accumulate):
            seed = derive_seed(self.seed, self.clock.rounds, index, repetition, part)
            self.runtime.seed_dropout(seed ^ _GLOBAL)  # the block in `run` forks the global state
            step = Step(
                size=self.model.batch_size // self.accumulate // ranks.size,
                clock=self.clock,
                generator=self.runtime.generator(seed),
                optimizers=MappingProxyType(self.optimizers),
                batch=None if move.batch == "none" else self._part_of_batch(part),
                rank=ranks.rank,
                ranks=ranks.size,
            )
            with self.runtime.autocast(), self._compiled(f"{index}:{move.player}"):
                terms = move.cost(step)
            (terms["loss"] / self.accumulate).backward()
            for name, value in terms.items():
                mean = value.detach() / self.accumulate
                means[name] = means[name] + mean if part else mean
        return means

    @contextmanager
    def _compiled(self, key: str) -> Iterator[None]:
        # for costs alone: samples and scores come in other shapes, each of which would be compiled anew
        compiled = self._fast_forward if key in self.flops_per_update else {}
        for module, forward in compiled.items():
            module.forward = forward
        try:
            yield
        finally:
            for module in compiled:
                del module.forward

    def _note(self, player: str, terms: Mapping[str, Tensor]) -> None:
        clock = self.clock
        self._in_flight.append(
            _Cost(player, clock.updates[player], clock.rounds, clock.examples, terms["loss"])
        )
        for name, value in terms.items():
            total, count = self.terms.get(f"{player}/{name}", (0.0, 0))
            self.terms[f"{player}/{name}"] = (value + total, count + 1)

    def _part_of_batch(self, part: int) -> Batch:
        if self._batch_in_hand is None:
            raise BestiaryError("Move.batch: found 'same' before any batch was drawn in this round")
        position, seed = self._batch_in_hand
        size = self.model.batch_size // self.accumulate
        whole = self._draw(position + part * size, size, derive_seed(seed, part))
        if self.runtime.ranks.size == 1:
            return whole
        # drawn whole on every rank, since what is random about an example is drawn with its batch
        mine = self.runtime.ranks.share(size)
        return Batch(whole.x[mine], None if whole.condition is None else whole.condition[mine])

    def _draw(self, position: int, size: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        indices = (
            torch.arange(position, position + size)
            if self._order is None
            else self._order.indices(position, size)
        )
        return self.source.take(indices, generator=generator).to(self.runtime.device)

    def _player(self, name: str) -> Player:
        if name not in self.players:
            raise BestiaryError(f"Move.player: found {name!r}, wanted one of {', '.join(self.players)}")
        return self.players[name]

    def _freeze_all_but(self, name: str) -> None:
        if self._moving != name:
            for parameter in self._parameters:
                parameter.requires_grad_(id(parameter) in self._owned[name])
            self._moving = name

    def _unfreeze(self) -> None:
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
            parameter.grad = None
        self._moving = None

    def _look_at_costs(self) -> None:
        """Stop on a cost that is not finite, or has run away from all that the first updates saw."""
        costs = torch.stack([each.value for each in self._in_flight]).tolist() if self._in_flight else []
        self._looked = time.perf_counter()
        for each, cost in zip(self._in_flight, costs, strict=True):
            player, where = each.player, f"in round {each.round}, after {each.examples} examples"
            if not math.isfinite(cost):
                raise DivergedError(f"the cost of the {player} is {cost} {where}")
            first = self.largest_first_cost.get(player, 0.0)
            if each.update < _FIRST_UPDATES:
                self.largest_first_cost[player] = max(first, abs(cost))
            elif abs(cost) > _DIVERGENCE * (1 + first):
                raise DivergedError(f"the cost of the {player} has run away to {cost:.3g} {where}")
        self._in_flight.clear()

    def take_terms(self) -> dict[str, float]:
        """Means of the costs' terms since the last call, by "player/term"."""
        means = {name: float(total) / count for name, (total, count) in self.terms.items()}
        self.terms, self._taken = {}, means or self._taken
        return means

    def latest_terms(self) -> dict[str, float]:
        """For those who only look: means since terms were last taken, or else what was taken then."""
        return {name: float(total) / count for name, (total, count) in self.terms.items()} or self._taken

    def check_finite(self) -> None:
        """Refuse to keep weights that are not finite.

        Raises:
            DivergedError: a parameter or buffer holds nan or an infinity.
        """
        self._look_at_costs()
        for name, tensor in self.model.state_dict().items():
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.isfinite().all():
                raise DivergedError(f"{name} is not finite any more in round {self.clock.rounds}")


def _check_parts(model: Model, accumulate: int, ranks: int) -> None:
    """Refuse to cut batches into parts that do not come out even, or that the costs cannot be cut into."""
    parts = accumulate * ranks
    name, found = ("accumulate", accumulate) if ranks == 1 else ("ranks × accumulate", parts)
    if parts > 1 and model.batch_coupled:
        raise OptionError(
            f"{name}: found {found}, wanted 1: costs of this {type(model).__name__} look at a whole batch"
        )
    if model.batch_size % parts:
        raise OptionError(f"{name}: found {found}, wanted a divisor of the batch size {model.batch_size}")
