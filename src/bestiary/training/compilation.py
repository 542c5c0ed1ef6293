"""Where `torch.compile` pays: for the models that say so, in a training that is long enough."""

import copy
import os
import shutil
from typing import Literal

from bestiary.data.splits import Split
from bestiary.errors import OptionError
from bestiary.models.base import Model
from bestiary.randomness import forked_randomness
from bestiary.training.budget import Budget
from bestiary.training.loop import DivergedError, Training
from bestiary.training.runtime import Runtime

Compile = Literal["auto", "on", "off"]

# Compiling takes tens of seconds on two cores, and makes a step a tenth to a fifth faster at best.
_PAYS_AFTER = 600.0
_TRIAL_ROUNDS = 3


def choose_compilation(
    model: Model, source: Split, budget: Budget, runtime: Runtime, wanted: Compile = "auto"
) -> bool:
    """Whether a training should use `torch.compile`; "auto" counts what is left of the budget in seconds.

    Raises:
        OptionError: a word that is none of the three, or "on" where no C++ compiler can be found.
    """
    if wanted not in ("auto", "on", "off"):
        raise OptionError(f"compile: found {wanted!r}, wanted auto, on or off")
    possible = runtime.device.type != "cpu" or any(map(shutil.which, _cpp_compilers()))
    if wanted == "on" and not possible:
        raise OptionError("compile: found 'on', but there is no C++ compiler here: install g++, or leave it")
    if wanted != "auto" or not (model.compiled and possible):
        return wanted == "on"
    return _expected_seconds(model, source, budget, runtime) >= _PAYS_AFTER


def _cpp_compilers() -> list[str]:
    return [os.environ.get("CXX", "g++"), "g++", "clang++"]


def _expected_seconds(model: Model, source: Split, budget: Budget, runtime: Runtime) -> float:
    if budget.unit == "seconds":
        return budget.amount
    try:
        with forked_randomness(0):
            trial = Training(copy.deepcopy(model), source, budget=budget, seed=0, runtime=runtime)
            trial.round()  # the first one is slower
            progress, seconds = trial.clock.progress, trial.clock.seconds
            for _ in range(_TRIAL_ROUNDS):
                trial.round()
    except (DivergedError, MemoryError, RuntimeError):  # the training itself will say what is wrong
        return 0.0
    spent = trial.clock.progress - progress
    return (trial.clock.seconds - seconds) / spent if spent > 0 else 0.0
