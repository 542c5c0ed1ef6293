"""What a training would be, found out by a few rounds that are thrown away: the dry run."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from bestiary.cli.job import Job
from bestiary.cli.output import duration
from bestiary.models.base import Clock, ClosedForm
from bestiary.runs import RunConfig
from bestiary.training.loop import Training

_ROUNDS_TRIED = 3
_SECONDS_TRIED = 5.0
_ROUNDS_COUNTED = 1000  # so many that moves of every k-th round count by their share


@dataclass(frozen=True)
class Plan:
    """A training that was not started.

    Attributes:
        config: what its config.yaml would hold.
        out: the folder that it would write.
        parameters: trained parameters.
        players: parameters of each player.
        hardware: device and precision.
        rounds, examples, epochs, updates, seconds, flops: what the budget comes to, seconds estimated
            from the rounds that were tried; None for a model that is solved in closed form, and epochs
            where examples never end.
        bytes: of weights, gradients, averages and optimisers; activations come on top.
    """

    config: dict[str, Any]
    out: str
    parameters: int
    hardware: str
    players: Mapping[str, int] = field(default_factory=dict)
    rounds: int | None = None
    examples: int | None = None
    epochs: float | None = None
    updates: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    flops: float | None = None
    bytes: int | None = None

    def lines(self) -> list[str]:
        """In words, a line each."""
        players = ", ".join(f"{name} {count:,}" for name, count in self.players.items())
        lines = [f"parameters  {self.parameters:,}" + (f" ({players})" if len(self.players) > 1 else "")]
        if self.rounds is None:
            lines.append("budget      not used: the model is solved in closed form")
        else:
            updates = ", ".join(f"{count:,} {name} updates" for name, count in self.updates.items())
            epochs = "" if self.epochs is None else f" ({self.epochs:,.3g} epochs)"
            lines.append(f"budget      {self.config['budget']}: {self.rounds:,} rounds, {updates},")
            lines.append(f"            {self.examples:,} examples{epochs}, {self.flops:.2g} flops")
            lines.append(f"time        about {duration(self.seconds or 0)}, on {self.hardware}")
            lines.append(f"memory      {(self.bytes or 0) / 2**20:,.0f} MiB, and activations on top")
        return [*lines, f"folder      {self.out}"]


def plan(job: Job, out: Path) -> Plan:
    """Find out what a training would be; the model is trained for a few rounds, nothing is written.

    Raises:
        OptionError: a budget that this model or data cannot spend.
    """
    model, runtime, of_all = job.model, job.runtime, {"seed": job.seed, "accumulate": job.accumulate}
    config = asdict(RunConfig.of(model, job.data, budget=job.budget, runtime=runtime, **of_all))
    hardware = f"{runtime.device} in {runtime.precision}" + (", compiled" if runtime.compiled else "")
    if isinstance(model, ClosedForm):
        return Plan(config, str(out), model.parameter_count, hardware)
    eager = replace(runtime, compiled=False)  # compiling takes longer than a dry run should
    training = Training(model, job.data.train, budget=job.budget, runtime=eager, **of_all)
    seconds = _seconds_a_round(training)
    many = _many_rounds(training, seconds)
    rounds = math.ceil(_ROUNDS_COUNTED / job.budget.spent(many))
    share = rounds / _ROUNDS_COUNTED
    return Plan(
        config,
        str(out),
        model.parameter_count,
        hardware,
        players={
            name: sum(p.numel() for p in player.parameters) for name, player in training.players.items()
        },
        rounds=rounds,
        examples=round(many.examples * share),
        epochs=many.epochs * share if many.epoch_size else None,
        updates={name: round(count * share) for name, count in many.updates.items()},
        seconds=seconds * rounds,
        flops=many.flops * share,
        bytes=_bytes(training),
    )


def _seconds_a_round(training: Training) -> float:
    clock, after = training.clock, [0.0]

    def enough() -> str:
        tried = len(after) > _ROUNDS_TRIED or clock.seconds > _SECONDS_TRIED
        return "a dry run" if tried else ""

    training.run([lambda _: after.append(clock.seconds)], enough)
    # The first round, which is the slowest, counts only where it is the only one.
    return min((b - a for a, b in pairwise(after)), default=clock.seconds)


def _many_rounds(training: Training, seconds: float) -> Clock:
    many = Clock(
        rounds=_ROUNDS_COUNTED,
        seconds=seconds * _ROUNDS_COUNTED,
        epoch_size=training.clock.epoch_size,
        updates=dict.fromkeys(training.players, 0),
    )
    for index, move in enumerate(training.model.moves(training.clock)):
        times = move.times * math.ceil(_ROUNDS_COUNTED / move.every)
        many.updates[move.player] += times
        many.flops += times * training.flops_per_update.get(f"{index}:{move.player}", 0.0)
        many.examples += times * training.model.batch_size * (move.batch == "new")
    return many


def _bytes(training: Training) -> int:
    weights = list(training.model.parameters())
    gradients = weights  # as many, and as large
    tensors: list[Tensor] = [*weights, *gradients, *training.model.buffers()]
    tensors += training.averages.state().values()
    for optimizer in training.optimizers.values():
        for entries in optimizer.state.values():
            tensors += [value for value in entries.values() if isinstance(value, Tensor)]
    return sum(tensor.nbytes for tensor in tensors)
