"""Whether a generator draws all kinds of data or a few, looked at while it trains."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bestiary.data.specs import ImageSpec, PointSpec
from bestiary.data.splits import Split
from bestiary.metrics.diversity import DataCells, relative_spread
from bestiary.models.base import Clock, Critic, Model, Sampler
from bestiary.runs.folder import model_name
from bestiary.runs.json_lines import append_line, read_lines
from bestiary.runs.observers import Milestones, score_line
from bestiary.training.loop import Training

SAMPLES = 512
_IN_CELLS = 1000  # training examples that the cells are found on
_FIRST_ROUNDS = 1500  # in which a generator learns to draw anything at all
# Steps times learning rate, which is about as far as Adam can have moved a weight: at the small learning
# rates of papers more rounds must pass before a generator that draws one thing is one that collapsed.
_LEAST_WAY = 0.5
_FAIR_SHARE = 0.5  # of the budget, after which all kinds of data should be drawn
_MOST_MISSED = 2 / 3  # of the data's mass
_LEAST_SPREAD = 0.25
_NAME = "mode collapse"
_CURES = ("wgan-gp", "unrolled-gan")  # models that were made against it


class SampleDiversity:
    """Holds samples of an adversarial model against data ten times over the budget; warns of a mode collapse.

    Each look draws 512 samples from the same codes, for the conditions of 512 training examples where there
    are any, and adds two lines to scores.jsonl: `missed_mass`, the share of the data whose like is hardly
    ever drawn, with the shares of each cell; and `relative_spread`, how far apart samples lie beside data,
    among those for the same condition where enough examples share theirs.

    A mode collapse is that samples miss more than two thirds of the data, or lie less than a quarter as far
    apart, on two looks in a row, the second one in the second half of the budget: also where it is other
    modes each time. A generator that ignores its noise, but not conditions that hardly two examples share,
    goes unnoticed. Nothing is looked at in the first 1,500 rounds, and no collapse is called one before steps
    times learning rate have come to 0.5 (10,000 rounds at 5e-5): until then little may simply be learned.

    References: see `bestiary.metrics.diversity`.

    Arguments:
        path: of scores.jsonl.
        clock: of the training that begins or goes on.
        warned: what was warned of before this training was interrupted.

    Attributes:
        warned: what was warned of, at most one line.
    """

    def __init__(self, path: Path, clock: Clock, warned: Sequence[str] = (), times: int = 10) -> None:
        self._path = path
        self._milestones = Milestones(times, clock)
        self._cells: DataCells | None = None
        self.warned = [line for line in warned if line.startswith(_NAME)]

    def __call__(self, training: Training) -> None:
        """After a round."""
        model, clock = training.model, training.clock
        plays = isinstance(model, Critic) and isinstance(model, Sampler)
        if not plays or not isinstance(model.spec, ImageSpec | PointSpec):
            return
        if not self._milestones.due(clock) or clock.rounds < _FIRST_ROUNDS:
            return
        seen = self._look(model, training.source, clock)
        if seen and not self.warned and clock.progress >= _FAIR_SHARE and _way(training) >= _LEAST_WAY:
            self._judge(model, clock)

    def _look(self, model: Model, source: Split, clock: Clock) -> bool:
        """Write the two lines; whether there was anything to tell."""
        assert isinstance(model, Sampler)
        real = source.spread(SAMPLES)
        condition = None if real.condition is None else real.condition.to(model.device)
        with model.evaluation():
            generator = torch.Generator().manual_seed(0)
            fake = model.sample(len(real), condition=condition, generator=generator).cpu().flatten(1)
        if len(real) < 2 or not fake.isfinite().all():  # the loop finds out by itself that training diverged
            return False
        kind = "pixels" if isinstance(model.spec, ImageSpec) else "points"
        spread = relative_spread(
            real=real.x.flatten(1), fake=fake, groups=_groups(real.condition), embedding=kind
        )
        if math.isnan(spread.value):  # data that are all alike
            return False
        if self._cells is None:
            self._cells = DataCells(source.spread(_IN_CELLS).x.flatten(1), embedding=kind)
        missed = self._cells.missed(fake)
        for name, score, more in (
            ("missed_mass", missed, {"real": missed.real, "fake": missed.fake}),
            ("relative_spread", spread, {}),
        ):
            score = replace(score, protocol=f"{score.protocol.removesuffix(']')}, train]")
            append_line(self._path, {**score_line(name, score, clock.examples, "train", 0), **more})
        return True

    def _judge(self, model: Model, clock: Clock) -> None:
        lines = read_lines(self._path)  # which a training that was interrupted finds again
        missed, spread = (
            [line["value"] for line in lines if line["metric"] == name][-2:]
            for name in ("missed_mass", "relative_spread")
        )
        if len(missed) < 2 or (min(missed) <= _MOST_MISSED and max(spread) >= _LEAST_SPREAD):
            return
        self.warned.append(
            f"{_NAME}: samples miss {100 * missed[-1]:.0f} % of the data, and lie {spread[-1]:.2f} times as"
            f" far apart as data do, after {100 * clock.progress:.0f} % of the budget: try {_remedies(model)}"
        )
        warnings.warn(self.warned[-1], stacklevel=2)


def _way(training: Training) -> float:
    """Steps times learning rate, of the player for which that is most."""
    return max(
        training.clock.updates[player] * float(group["lr"])
        for player, optimizer in training.optimizers.items()
        for group in optimizer.param_groups
    )


def _groups(condition: Tensor | None) -> Tensor | None:
    """Which examples share their condition, (n,), or None where hardly any do."""
    if condition is None:
        return None
    kinds, group = condition.cpu().unique(dim=0, return_inverse=True)
    return group if len(kinds) <= len(group) // 2 else None


def _remedies(model: Model) -> str:
    settings = model.settings
    words = []
    if settings.get("packing") == 1:
        words.append("packing=2")
    if settings.get("minibatch_discrimination") == 0:
        words.append("minibatch_discrimination=100")
    rates = [name for name in ("generator_learning_rate", "learning_rate") if settings.get(name)]
    words += [f"{name} below {settings[name]:g}" for name in rates[:1]]
    words += [name for name in _CURES if name != model_name(model)]
    return f"{', '.join(words[:-1])} or {words[-1]}"
