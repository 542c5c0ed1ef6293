"""Successive halving: all trials of an arm get a small budget, and of every rung the best few go on.

With η = 3 and three rungs n trials train for 1/9 of the budget, the best ⌈n/3⌉ of them go on to 1/3, the best
⌈n/9⌉ to the whole. A rung is decided when all its trials have been told, so that the decision does not depend
on the order in which they end.

References:
    *Non-stochastic Best Arm Identification and Hyperparameter Optimization* (Jamieson & Talwalkar, 2016),
    arXiv 1502.07943; rungs as in *Hyperband* (Li et al., 2018), arXiv 1603.06560.
"""

from bestiary.study.plan.design import Halving, Study


def shares(halving: Halving | None) -> tuple[float, ...]:
    """Of each rung, the share of the budget that its trials have spent at its end; the last one is 1."""
    if halving is None:
        return (1.0,)
    return tuple(1 / halving.factor**left for left in reversed(range(halving.rungs)))


def quota(n: int, rung: int, halving: Halving | None) -> int:
    """How many of n trials enter a rung, ⌈n/η^rung⌉; all where none is given up."""
    return n if halving is None or not halving.stop else -(-n // halving.factor**rung)


def cost(n: int, halving: Halving | None) -> float:
    """What n trials come to, in whole budgets, if none fails."""
    spent = (0.0, *shares(halving))
    return sum(quota(n, rung, halving) * (spent[rung + 1] - spent[rung]) for rung in range(len(spent) - 1))


def draws(study: Study) -> int:
    """How many draws an arm gets: those asked for, or as many as halving makes of their budgets."""
    n = study.draws
    if study.halving is None or study.halving.saved == "report":
        return n
    while cost(n + 1, study.halving) <= study.draws + 1e-9:
        n += 1
    return n
