"""Everything that a training needs, made from a recipe."""

from dataclasses import dataclass, replace

from bestiary.catalogue import create, entry
from bestiary.cli.opening import open_data
from bestiary.cli.options import DEFAULT_BUDGET, DEFAULT_DATA
from bestiary.cli.recipe import Recipe
from bestiary.config import options, resolve
from bestiary.data import Data
from bestiary.models import Model
from bestiary.models.base import ClosedForm
from bestiary.training.budget import Budget, parse_budget
from bestiary.training.compilation import Compile, choose_compilation
from bestiary.training.runtime import Runtime, choose_runtime

COMPILE: dict[bool | None, Compile] = {None: "auto", True: "on", False: "off"}


@dataclass(frozen=True)
class Job:
    """A training that could start now.

    Attributes:
        name: of the model.
        model, data, budget, seed, runtime, accumulate: what `bestiary.train` takes.
        notes: what was chosen for the person, a line each.
    """

    name: str
    model: Model
    data: Data
    budget: Budget
    seed: int
    runtime: Runtime
    accumulate: int
    notes: tuple[str, ...]


def make_job(name: str, recipe: Recipe, *, device: str) -> Job:
    """Open the data, build the model `name`, fill in what nobody has said.

    Raises:
        OptionError: an unknown model, data set, setting, budget or device, or a value that is not valid.
        DataError: data that are missing or damaged, or that the model cannot be made for.
    """
    found = entry(name)
    data = open_data(DEFAULT_DATA if recipe.data is None else recipe.data, recipe.data_options or {})
    budget = parse_budget(DEFAULT_BUDGET if recipe.budget is None else recipe.budget)
    kind, settings, seed = found.load(), recipe.settings or {}, recipe.seed or 0
    resolved = resolve(kind, {**found.settings(recipe.preset or "paper"), **settings}, owner=found.name)
    model = create(found.name, spec=data.spec, seed=seed, **resolved)
    if not isinstance(model, ClosedForm):
        budget.check(endless=data.train.endless, players=model.players())
    runtime = choose_runtime(model, device=device, precision=recipe.precision or "auto")
    compile = COMPILE[recipe.compiled]
    runtime = replace(runtime, compiled=choose_compilation(model, data.train, budget, runtime, compile))
    notes = []
    if recipe.data is None:
        notes.append(f"data: {DEFAULT_DATA}, the default (`bestiary data` lists the others)")
    if recipe.budget is None:
        notes.append(f"budget: {DEFAULT_BUDGET}, the default (change it with --budget)")
    if recipe.fingerprint and recipe.fingerprint != data.fingerprint:
        notes.append("data: no longer what they were when the config file was written")
    of_paper = recipe.preset != "laptop" and not set(options(kind)) <= set(settings)
    if of_paper and found.laptop and runtime.device.type == "cpu":
        notes.append("settings: the paper's, which are slow on a CPU; --preset laptop is the reduced one")
    return Job(found.name, model, data, budget, seed, runtime, recipe.accumulate or 1, tuple(notes))
