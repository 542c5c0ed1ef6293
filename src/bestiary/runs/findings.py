"""What models are scored against, and what was found out about one."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from bestiary.data.splits import Data, Split
from bestiary.metrics.results import Score
from bestiary.randomness import derive_seed

SplitName = Literal["validation", "test"]


@dataclass(frozen=True, eq=False)
class Reference:
    """The real examples that models are scored against.

    Attributes:
        data: the data set.
        split: which part of it is scored against.
        n: number of real examples, the first of that split, and of samples.
        seed: of samples, of bounds and of the metrics.
    """

    data: Data
    split: SplitName
    n: int
    seed: int

    @property
    def examples(self) -> Split:
        """The split that is scored against."""
        return self.data.test if self.split == "test" else self.data.validation

    @property
    def other_split(self) -> SplitName:
        """The name of the held-out split that is not scored against."""
        return "validation" if self.split == "test" else "test"

    @property
    def others(self) -> Split:
        """That split, whose examples stand in for samples in the real/real floor."""
        return self.data.validation if self.split == "test" else self.data.test

    @cached_property
    def real(self) -> Tensor:
        """The real examples, shape (n, *spec.shape)."""
        return self.examples[: self.n].x

    def generator(self, what: int) -> torch.Generator:
        """A generator of its own for each purpose."""
        return torch.Generator().manual_seed(derive_seed(self.seed, what))


@dataclass
class Evaluation:
    """What was found out about one model.

    Attributes:
        scores: by name; every value is finite.
        unavailable: name of a metric, or of one score of it, that this model cannot have → why.
        notes: what to know before believing the scores, a line each.
        precision, recall: the PRD curve, or None.
        nats: −log p of each example that "nats" is the mean of, shape (n,), or None.
        samples: what the sample metrics judged, shape (n, *spec.shape), or None.
        sampling_seconds: for 1,000 samples, or None.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    precision: Tensor | None = None
    recall: Tensor | None = None
    nats: Tensor | None = None
    samples: Tensor | None = None
    sampling_seconds: float | None = None

    def add(self, name: str, score: Score, *, infinite: str = "its value is infinite") -> None:
        """Keep a score without what its metric tells beyond it; without a finite value, the reason instead.

        Arguments:
            name: of the score.
            score: what the metric returned.
            infinite: why the value is infinite, if it is.
        """
        if not math.isfinite(score.value):
            self.lack([name], infinite if math.isinf(score.value) else "its value is not a number")
            return
        error = score.error if score.error is not None and math.isfinite(score.error) else None
        self.scores[name] = Score(score.value, error, score.n_real, score.n_fake, score.protocol)

    def lack(self, names: Iterable[str], reason: str) -> None:
        """Keep why these metrics, or these scores, are not there."""
        self.unavailable |= dict.fromkeys(names, reason)
