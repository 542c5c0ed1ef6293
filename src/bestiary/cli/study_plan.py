"""What a study would cost, found out by a few rounds of each arm that are thrown away: the dry run."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from bestiary.cli.job import Job
from bestiary.cli.plan import plan
from bestiary.data import Data, load_data
from bestiary.runs.evaluation import Evaluator
from bestiary.scores import SCORES
from bestiary.study.execution.engines import threads_for
from bestiary.study.execution.running import check
from bestiary.study.execution.work import budget_for, build
from bestiary.study.plan.design import Arm, Study
from bestiary.study.search.halving import cost, draws
from bestiary.training.budget import parse_budget
from bestiary.training.runtime import choose_runtime, device_for

_EXAMPLES_SCORED = 200


@dataclass(frozen=True)
class ArmPlan:
    """What one arm would cost.

    Attributes:
        name: of the arm.
        draws: how many it gets.
        budgets: whole budgets that its draws come to.
        retraining: runs of its winner, here and elsewhere.
        budget: of each, as this model spends it.
        parameters: of the default setting.
        rounds, examples, flops, seconds: of one budget at the default setting; None for a model that is
            solved in closed form.
        scoring_seconds: of one trial on the validation split, in proportion to fewer examples.
    """

    name: str
    draws: int
    budgets: float
    retraining: int
    budget: str
    parameters: int
    rounds: int | None
    examples: int | None
    flops: float | None
    seconds: float | None
    scoring_seconds: float

    @property
    def total_seconds(self) -> float:
        """Of the whole arm on one worker; re-trained winners are taken to score as trials do."""
        runs = self.budgets + self.retraining
        return runs * (self.seconds or 0.0) + (self.draws + self.retraining) * self.scoring_seconds


def plan_study(study: Study, *, workers: int, device: str) -> list[ArmPlan]:
    """Train each arm's default setting for a few rounds, and score it on a few examples; nothing is written.

    Raises:
        OptionError, DataError: what the study itself would refuse.
    """
    data = load_data(study.data.name, **study.data.options)
    check(study, data)
    before = torch.get_num_threads()
    torch.set_num_threads(threads_for(workers))  # as many as a worker has
    try:
        return [_plan_arm(study, arm, data, device) for arm in study.arms]
    finally:
        torch.set_num_threads(before)


def _plan_arm(study: Study, arm: Arm, data: Data, device: str) -> ArmPlan:
    model = build(arm.model, arm.settings, study.seed, data)
    budget = budget_for(parse_budget(study.budget), list(model.players()))
    runtime = choose_runtime(model, device=device, precision=study.precision)
    found = plan(Job(arm.name, model, data, budget, study.seed, runtime, 1, ()), Path())
    n = draws(study)
    return ArmPlan(
        name=arm.name,
        draws=n,
        budgets=cost(n, study.halving),
        retraining=study.retrain_seeds * (1 + len(study.elsewhere)),
        budget=str(budget),
        parameters=found.parameters,
        rounds=found.rounds,
        examples=found.examples,
        flops=found.flops,
        seconds=found.seconds,
        scoring_seconds=_scoring_seconds(study, arm, data, device),
    )


def _scoring_seconds(study: Study, arm: Arm, data: Data, device: str) -> float:
    """Of an untrained model, on fewer examples than the study's."""
    chosen = study.selection
    metrics = [SCORES[name].metric for name in (chosen.score, *study.search.scores)]
    evaluator = Evaluator(
        data,
        n=min(_EXAMPLES_SCORED, chosen.n),
        split="validation",
        embedding=chosen.embedding,
        device=device,
    )
    model = build(arm.model, arm.settings, study.seed, data)
    model.to(device_for(model, device))
    evaluator.floor(metrics)  # networks are loaded, and real features computed, once for all trials
    start = time.perf_counter()
    evaluator.evaluate(model, metrics)
    return (time.perf_counter() - start) * max(1.0, chosen.n / evaluator.n)
