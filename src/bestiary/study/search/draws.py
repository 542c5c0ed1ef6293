"""How settings are drawn: at random as in the paper, or by a tree-structured Parzen estimator.

Every draw is a function of the study's seed, the arm, the number of the draw and, with TPE, of what was told
before it was asked. No sampler has a state of its own, so that a journal replays exactly.

References:
    *Are GANs Created Equal?* (Lucic et al., 2018), arXiv 1711.10337: random search whose first draw is the
    default setting.
    *Algorithms for Hyper-Parameter Optimization* (Bergstra et al., 2011): TPE, and *Multiobjective
    Tree-Structured Parzen Estimator* (Ozaki et al., 2022): with several scores, both as Optuna has them.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bestiary.scores import SCORES
from bestiary.study.plan.design import Arm, Study
from bestiary.study.plan.spaces import Choices, Range, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Drawn = Mapping[str, Any]
# Draws at random before TPE has anything to go by, of short searches a third.
_STARTUP = 10


@dataclass(frozen=True)
class Told:
    """What one draw came to.

    Attributes:
        drawn: option to value.
        scores: one for each of the search's scores; None where the trial has failed or diverged.
    """

    drawn: Drawn
    scores: tuple[float, ...] | None


def ask(
    study: Study, arm: Arm, number: int, told: Sequence[Told], pending: Sequence[Drawn]
) -> dict[str, Any]:
    """The values of one draw, by option; the default setting for number 0.

    Arguments:
        study: the study.
        arm: one of its arms.
        number: of the draw.
        told: the arm's trials that have ended, in the order in which they were told.
        pending: the draws that have not, which TPE keeps away from.
    """
    if number == 0:
        return {name: arm.settings[name] for name in arm.space}
    startup = min(_STARTUP, study.draws // 3)
    if study.search.method == "random" or number <= startup or not arm.space:
        return random_draw(study.seed, arm, number)
    return _parzen_draw(study, arm, number, told, pending)


def random_draw(seed: int, arm: Arm, number: int) -> dict[str, Any]:
    """A draw that depends on nothing but its arguments; each option has randomness of its own."""
    return {
        name: dimension.at(float(np.random.default_rng(_seed(seed, arm.name, number, name)).random()))
        for name, dimension in arm.space.items()
    }


def trial_seed(study: Study, arm: Arm, number: int) -> int:
    """The seed of a trial's weights, batches and moves."""
    return _seed(study.seed, arm.name, number, "training") % 2**31


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8])


def _parzen_draw(
    study: Study, arm: Arm, number: int, told: Sequence[Told], pending: Sequence[Drawn]
) -> dict[str, Any]:
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {name: _distribution(dimension) for name, dimension in arm.space.items()}
    better = [SCORES[score].better for score in study.search.scores]
    worst = _worst([t.scores for t in told], better)
    search = optuna.create_study(
        directions=["maximize" if b == "higher" else "minimize" for b in better],
        sampler=optuna.samplers.TPESampler(
            seed=_seed(study.seed, arm.name, number, "tpe") % 2**32, n_startup_trials=0, constant_liar=True
        ),
    )
    # A default setting outside the space is a trial, but nothing to search around.
    for one in told:
        if _inside(one.drawn, arm.space) and worst is not None:
            values, params = one.scores or worst, _indexed(one.drawn, arm.space)
            state = TrialState.COMPLETE
            search.add_trial(create_trial(state=state, params=params, distributions=space, values=values))
    for drawn in pending:
        if _inside(drawn, arm.space):
            params, state = _indexed(drawn, arm.space), TrialState.RUNNING
            search.add_trial(create_trial(state=state, params=params, distributions=space))
    found = search.ask(space).params
    return {name: _value(found[name], dimension) for name, dimension in arm.space.items()}


def _worst(scores: Sequence[tuple[float, ...] | None], better: Sequence[str]) -> tuple[float, ...] | None:
    """What a trial without scores is taken for: as bad as the worst there is, or None where none has any."""
    known = [s for s in scores if s is not None]
    if not known:
        return None
    return tuple(
        (min if b == "higher" else max)(column)
        for b, column in zip(better, zip(*known, strict=True), strict=True)
    )


def _distribution(dimension: Range | Choices) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution(range(len(dimension.values)))
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


# Choices go by their place, since Optuna takes neither lists nor two values that Python finds equal.


def _indexed(drawn: Drawn, space: Space) -> dict[str, Any]:
    return {
        name: d.values.index(drawn[name]) if isinstance(d, Choices) else drawn[name]
        for name, d in space.items()
    }


def _value(found: Any, dimension: Range | Choices) -> Any:
    return dimension.values[found] if isinstance(dimension, Choices) else found


def _inside(drawn: Drawn, space: Space) -> bool:
    return all(drawn[name] in d and _is_number(drawn[name], d) for name, d in space.items())


def _is_number(value: Any, dimension: Range | Choices) -> bool:
    return isinstance(dimension, Choices) or (isinstance(value, int | float) and math.isfinite(value))
