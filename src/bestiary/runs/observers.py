"""What watches a training: the log, checkpoints, sample pictures and scores. None touches its randomness."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from bestiary.data.specs import Classes, Spec
from bestiary.data.splits import Split
from bestiary.metrics.results import Score
from bestiary.models.base import Clock, Model, Sampler
from bestiary.runs.json_lines import append_line
from bestiary.runs.pictures import picture_suffix, save_picture
from bestiary.training.checkpoint import save_training
from bestiary.training.loop import Training

SAMPLES_SHOWN = 64
_SAMPLE_SEED = 0


class Milestones:
    """Fires a fixed number of times over the budget, and at its end."""

    def __init__(self, times: int, clock: Clock) -> None:
        self._times = times
        self._passed = int(clock.progress * times)

    def due(self, clock: Clock) -> bool:
        """Whether another share of the budget has been spent since the last time."""
        now = int(clock.progress * self._times)
        due, self._passed = now > self._passed, now
        return due


class Log:
    """Appends clock and mean terms to log.jsonl, 200 times over the budget and after the first round."""

    def __init__(self, path: Path, clock: Clock, times: int = 200) -> None:
        self._path = path
        self._milestones = Milestones(times, clock)

    def __call__(self, training: Training) -> None:
        """After a round."""
        clock = training.clock
        if self._milestones.due(clock) or clock.rounds == 1:
            append_line(
                self._path,
                {
                    "examples": clock.examples,
                    "rounds": clock.rounds,
                    "seconds": round(clock.seconds, 3),
                    "flops": clock.flops,
                    **{f"updates/{player}": count for player, count in clock.updates.items()},
                    **training.take_terms(),
                },
            )


class Checkpoints:
    """Writes a checkpoint every so many seconds, of which saving takes a small share."""

    def __init__(self, folder: Path, saved: Callable[[], None], every_seconds: float) -> None:
        self._folder = folder
        self._saved = saved
        self._every = every_seconds
        self._last = time.monotonic()
        self._rounds_saved = -1

    def __call__(self, training: Training) -> None:
        """After a round."""
        if time.monotonic() - self._last >= self._every:
            self.save(training)
            self._last = time.monotonic()

    def save(self, training: Training) -> None:
        """Write one now, unless this round's is there already."""
        if training.clock.rounds != self._rounds_saved:
            save_training(training, self._folder)
            self._rounds_saved = training.clock.rounds
            self._saved()


class Samples:
    """Draws the same 64 codes as a picture, or as lines of text, ten times over the budget."""

    def __init__(self, folder: Path, clock: Clock, times: int = 10) -> None:
        self._folder = folder
        self._milestones = Milestones(times, clock)

    def __call__(self, training: Training) -> None:
        """After a round."""
        if isinstance(training.model, Sampler) and self._milestones.due(training.clock):
            with training.as_loaded() as model:
                self.draw(model, training.source, training.clock)

    def draw(self, model: Model, source: Split, clock: Clock) -> None:
        """Draw and save now, with conditions of the examples of `source` where they are vectors."""
        assert isinstance(model, Sampler)
        generator = torch.Generator().manual_seed(_SAMPLE_SEED)
        condition = shown_condition(model.spec, source, SAMPLES_SHOWN)
        with model.evaluation():
            x = model.sample(
                SAMPLES_SHOWN,
                condition=None if condition is None else condition.to(model.device),
                generator=generator,
            )
        save_picture(x, model.spec, self._folder / f"{clock.examples:08d}{picture_suffix(model.spec)}")


def shown_condition(spec: Spec, source: Split, n: int) -> Tensor | None:
    """Conditions for a picture of `n` samples: classes in turn, vectors of examples in turn, or none."""
    if isinstance(spec.condition, Classes):
        return torch.arange(n) % spec.condition.n
    found = source.spread(n).condition
    return None if found is None else found[torch.arange(n) % len(found)]


class Scores:
    """Appends scores on the validation split to scores.jsonl, a few times over the budget."""

    def __init__(
        self, path: Path, clock: Clock, score: Callable[[Model], Mapping[str, Score]], times: int = 5
    ) -> None:
        self._path = path
        self._score = score
        self._milestones = Milestones(times, clock)

    def __call__(self, training: Training) -> None:
        """After a round."""
        if self._milestones.due(training.clock):
            with training.as_loaded() as model:
                scores = self._score(model)
            for name, score in scores.items():
                append_line(self._path, score_line(name, score, training.clock.examples, "validation", 0))


def score_line(name: str, score: Score, examples: int, split: str, seed: int) -> dict[str, object]:
    """One line of scores.jsonl."""
    return {
        "metric": name,
        "value": score.value,
        "error": score.error,
        "protocol": score.protocol,
        "n_real": score.n_real,
        "n_fake": score.n_fake,
        "split": split,
        "seed": seed,
        "examples": examples,
    }
