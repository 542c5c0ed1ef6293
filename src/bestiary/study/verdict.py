"""The verdict in words: sentences that never say more than the numbers.

Two scores are called distinguishable where they differ by more than `THRESHOLD` standard errors of their
difference: of √(e_a² + e_b²), the two errors taken as independent, or, for likelihoods of the same examples,
of the mean of what the two differ by in each. A score without an error bar is never distinguishable from
another.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from bestiary.metrics.results import Score
from bestiary.scores import SCORES
from bestiary.study.results import Comparison, Curve, Entry, is_bound, show

THRESHOLD = 2.0
# How often two equal scores with normal errors differ by more than THRESHOLD: P(|N(0, 1)| > 2).
_BY_CHANCE = math.erfc(THRESHOLD / math.sqrt(2))
_PAIRS_NAMED = 4
_AT_BOUND = "Likelihoods that are bounds are taken at their bound."


@dataclass(frozen=True)
class Finding:
    """One paragraph of the verdict: a headline, and plain text."""

    topic: str
    text: str


@dataclass(frozen=True)
class Ranking:
    """The models in order of one score.

    Attributes:
        score: name of the score.
        values: model to score, best first; only finished models with a finite value.
        groups: the same order cut wherever every model before the cut is distinguishable from every
            model after it; nothing is claimed about the order inside a group.
    """

    score: str
    values: Mapping[str, Score]
    groups: tuple[tuple[str, ...], ...]

    @property
    def best(self) -> str | None:
        """The model that is distinguishably better than all others, or None."""
        return self.groups[0][0] if len(self.groups) > 1 and len(self.groups[0]) == 1 else None

    @property
    def has_errors(self) -> bool:
        """Whether any of the scores has an error bar."""
        return any(_has_error(score) for score in self.values.values())

    @property
    def contenders(self) -> tuple[str, ...]:
        """The model with the best value and those not distinguishable from it."""
        first, *others = self.values
        return (first, *(m for m in others if not distinguishable(self.values[first], self.values[m])))


@dataclass(frozen=True, eq=False)
class ExampleScore(Score):
    """A score that is the mean over examples.

    Attributes:
        values: of each example, in an order that scores of other models share, (n,).
    """

    values: Curve


def distinguishable(a: Score, b: Score) -> bool:
    """Whether two scores differ by more than `THRESHOLD` standard errors of their difference."""
    if not (_has_error(a) and _has_error(b)):
        return False
    return abs(a.value - b.value) > THRESHOLD * _error_of_difference(a, b)


def _error_of_difference(a: Score, b: Score) -> float:
    if isinstance(a, ExampleScore) and isinstance(b, ExampleScore) and len(a.values) == len(b.values):
        return float(np.std(a.values - b.values, ddof=1)) / math.sqrt(len(a.values))
    return math.hypot(a.error or 0.0, b.error or 0.0)


def rank(comparison: Comparison, name: str) -> Ranking:
    """The finished models in order of the score `name`; models without it are left out."""
    entries = [e for e in comparison.entries if e.status == "finished" and name in e.scores]
    scores = {e.model: _by_example(comparison, e, name) for e in entries}
    found = {model: score for model, score in scores.items() if math.isfinite(score.value)}
    sign = 1 if SCORES[name].better == "lower" else -1
    order = sorted(found, key=lambda model: sign * found[model].value)
    groups: list[list[str]] = []
    for i, model in enumerate(order):
        clear = all(distinguishable(found[a], found[b]) for a in order[:i] for b in order[i:])
        if clear:
            groups.append([model])
        else:
            groups[-1].append(model)
    return Ranking(name, {model: found[model] for model in order}, tuple(map(tuple, groups)))


def _by_example(comparison: Comparison, entry: Entry, name: str) -> Score:
    """The score of an entry, with its values of each example where these are known."""
    score = entry.scores[name]
    units = {"nats": 1.0, "bits_per_dim": math.log(2) * comparison.spec.dimensions}
    if entry.nats is None or name not in units:
        return score
    return ExampleScore(**vars(score), values=entry.nats / units[name])


def ranked_scores(comparison: Comparison) -> dict[str, Ranking]:
    """Rankings by every main score that at least one finished model has, and that puts models in order.

    Nats are left out where there are bits/dim, which are the same number in another unit.
    """
    rankings = {name: rank(comparison, name) for name in comparison.main_names if SCORES[name].ranked}
    rankings = {name: ranking for name, ranking in rankings.items() if ranking.values}
    if "bits_per_dim" in rankings:
        rankings.pop("nats", None)
    return rankings


def verdict(comparison: Comparison) -> tuple[Finding, ...]:
    """What can be said about a comparison, the most important first."""
    rankings = ranked_scores(comparison)
    findings = [_overall(comparison, rankings)]
    findings += [_by_score(comparison, ranking) for ranking in rankings.values()]
    likelihood = rankings.get("bits_per_dim") or rankings.get("nats")
    if likelihood and "frechet" in rankings and len(comparison.entries) > 1:
        findings.append(_agreement(likelihood, rankings["frechet"]))
    findings += _memorisation(comparison)
    unfinished = [e for e in comparison.entries if e.status != "finished"]
    if unfinished:
        named = [f"{e.model} {e.status}" + (f" ({e.reason})" if e.reason else "") for e in unfinished]
        rule = "What did not use its whole budget is not put in order."
        findings.append(Finding("Not ranked", f"{'; '.join(named)}. {rule}"))
    return (*findings, _limits(comparison, rankings))


def _overall(comparison: Comparison, rankings: Mapping[str, Ranking]) -> Finding:
    finished = [e.model for e in comparison.entries if e.status == "finished"]
    contested = [ranking for ranking in rankings.values() if len(ranking.values) > 1]
    if not contested:
        return Finding("Nothing can be ranked", _why_unranked(comparison, finished))
    bounds = f" {_AT_BOUND}" if any(map(_has_bounds, contested)) else ""
    winner = next((model for model in finished if _wins(model, contested)), None)
    if winner:
        text = "Beyond the error bars, where there are any, on these data, at this budget and with this seed."
        return Finding(f"{winner} is best by every score that the verdict rests on", text + bounds)
    leads: dict[tuple[str, ...], list[str]] = {}
    for ranking in contested:
        if ranking.has_errors:
            leads.setdefault(ranking.contenders, []).append(_title(ranking.score))
    parts = [
        f"{listed(models)}{', not distinguishable,' if len(models) > 1 else ''} in {listed(titles)}"
        for models, titles in leads.items()
    ]
    text = f"In front: {'; '.join(parts)}." if parts else "There are no error bars, so no lead is claimed."
    return Finding("No model is best by every score", text + bounds)


def _why_unranked(comparison: Comparison, finished: Sequence[str]) -> str:
    if len(comparison.entries) == 1:
        return "There is only one model."
    if len(finished) > 1:
        return "No two models share a score."
    return f"{f'Only {finished[0]}' if finished else 'No model'} finished its training."


def _wins(model: str, contested: Sequence[Ranking]) -> bool:
    """Best in all: distinguishably, or unbeaten in value where no score has an error bar."""
    for ranking in contested:
        values = ranking.values
        if model not in values:
            return False
        unbeaten = values[model].value == next(iter(values.values())).value
        if ranking.best != model and (ranking.has_errors or not unbeaten):
            return False
    return any(ranking.best == model for ranking in contested)


def _by_score(comparison: Comparison, ranking: Ranking) -> Finding:
    info, values = SCORES[ranking.score], ranking.values
    shown = {m: f"{m} ({'≤ ' if is_bound(ranking.score, s) else ''}{show(s)})" for m, s in values.items()}
    if len(values) == 1:
        alone = len(comparison.entries) == 1
        sentences = [f"{'' if alone else 'Only '}{listed(list(shown.values()))}."]
    elif not ranking.has_errors:
        sentences = [f"By value: {', '.join(shown.values())}. Without error bars no difference is claimed."]
    else:
        sentences = ["; then ".join(_group(group, values, shown) for group in ranking.groups) + "."]
        bare = [m for m, score in values.items() if not _has_error(score)]
        if bare:
            sentences.append(f"No difference to {listed(bare)} is claimed: there is no error bar.")
    sentences += _bounds(ranking) + _floor(comparison, ranking)
    finished = [e for e in comparison.entries if e.status == "finished"]
    reasons = _grouped({e.model: e.missing(ranking.score) for e in finished if e.model not in values})
    sentences += [
        f"{reason}." if len(models) == 1 and models[0] in reason else f"{listed(models)}: {reason}."
        for reason, models in reasons.items()
    ]
    return Finding(f"{info.title}, {info.better} is better", " ".join(sentences))


def _group(group: Sequence[str], scores: Mapping[str, Score], shown: Mapping[str, str]) -> str:
    named = listed([shown[m] for m in group])
    if len(group) == 1:
        return named
    pairs = list(combinations(group, 2))
    apart = [f"{a} before {b}" for a, b in pairs if distinguishable(scores[a], scores[b])]
    if not apart:
        return f"{named}, not distinguishable"
    if len(apart) > _PAIRS_NAMED:
        return f"{named}, where {len(apart)} of the {len(pairs)} pairs are distinguishable"
    return f"{named}, where only {listed(apart)} {_is(apart)} distinguishable"


def _bounds(ranking: Ranking) -> list[str]:
    bounds = [m for m, score in ranking.values.items() if is_bound(ranking.score, score)]
    if not bounds:
        return []
    text = f"Only a bound (≤) is known of {listed(bounds)}: the true value may be better"
    if _has_bounds(ranking):
        text += ", and being ahead of a bound is not being ahead of the true value"
    return [f"{text}."]


def _has_bounds(ranking: Ranking) -> bool:
    """Whether a value below the best one is only a bound, so that its true value may be ahead."""
    return any(is_bound(ranking.score, score) for score in list(ranking.values.values())[1:])


def _floor(comparison: Comparison, ranking: Ranking) -> list[str]:
    floor = comparison.floors.get(ranking.score)
    if floor is None or not math.isfinite(floor.value):
        return []
    sign = 1 if SCORES[ranking.score].better == "lower" else -1
    judged = [m for m, score in ranking.values.items() if _has_error(score) and _has_error(floor)]
    apart = [m for m in judged if distinguishable(ranking.values[m], floor)]
    worse = [m for m in apart if sign * (ranking.values[m].value - floor.value) > 0]
    same = [m for m in judged if m not in apart]
    beyond = [m for m in apart if m not in worse]

    def gap(model: str) -> str:
        score = ranking.values[model]
        error = math.hypot(score.error or 0.0, floor.error or 0.0)
        return show(replace(score, value=abs(score.value - floor.value), error=error))

    sentences = [f"Real data against real data: {show(floor)}."]
    if beyond:
        sentences.append(
            f"{listed(beyond)} {_is(beyond)} beyond that, which does not mean better than real: copies of"
            " training images score so, and samples that are too typical."
        )
    if same:
        sentences.append(f"{listed(same)} {_is(same)} not distinguishable from that, by this score alone.")
    if len(worse) == 1:
        sentences.append(f"{worse[0]} is worse by {gap(worse[0])}.")
    elif worse and len(judged) < len(ranking.values):
        sentences.append(f"{listed(worse)} are worse, the closest, {worse[0]}, by {gap(worse[0])}.")
    elif worse:
        who = "The others are" if beyond or same else "Every model is"
        sentences.append(f"{who} worse, the closest, {worse[0]}, by {gap(worse[0])}.")
    return sentences


def _has_error(score: Score) -> bool:
    return score.error is not None and math.isfinite(score.error)


def _agreement(likelihood: Ranking, frechet: Ranking) -> Finding:
    topic = "Is the order the same under likelihood and Fréchet distance?"
    both = [m for m in likelihood.values if m in frechet.values]
    if len(both) < 2:
        return Finding(topic, "That cannot be asked: fewer than two models have both scores.")
    decided = [
        (a, b)
        for a, b in combinations(both, 2)
        if distinguishable(likelihood.values[a], likelihood.values[b])
        and distinguishable(frechet.values[a], frechet.values[b])
    ]
    if not decided:
        return Finding(topic, "That cannot be told: no pair of models is distinguishable under both scores.")
    against = [(a, b) for a, b in decided if frechet.values[a].value > frechet.values[b].value]
    pairs = "the one pair" if len(decided) == 1 else f"the {len(decided)} pairs"
    if against:
        named = [f"likelihood puts {a} before {b}, Fréchet {b} before {a}" for a, b in against[:_PAIRS_NAMED]]
        named += [f"{len(against) - _PAIRS_NAMED} more"] if len(against) > _PAIRS_NAMED else []
        start = "No" if len(against) == len(decided) else "Not always"
        answer = f"{start}: of {pairs} distinguishable under both, {len(against)} in opposite order"
        answer = f"{answer} ({'; '.join(named)})."
    else:
        same = "has the same order" if len(decided) == 1 else "have the same order"
        answer = f"Yes, as far as it can be told: {pairs} distinguishable under both {same}."
    if any(is_bound(likelihood.score, likelihood.values[b]) for _, b in decided):
        answer += f" {_AT_BOUND}"
    return Finding(topic, answer)


def _memorisation(comparison: Comparison) -> list[Finding]:
    ranking, floor = rank(comparison, "memorisation"), comparison.floors.get("memorisation")
    if not ranking.values or floor is None or not math.isfinite(floor.value):
        return []
    copies = [
        f"{m} ({show(score)})"
        for m, score in ranking.values.items()
        if score.value > floor.value and distinguishable(score, floor)
    ]
    answer = "No model is distinguishably above that."
    if copies:
        answer = f"Samples lie closer to training images than that: {listed(copies)}."
    return [Finding("Memorisation", f"Unseen real data score {show(floor)}. {answer}")]


def _limits(comparison: Comparison, rankings: Mapping[str, Ranking]) -> Finding:
    text = (
        f"Two scores are called distinguishable when they differ by more than {THRESHOLD:g} standard errors"
        " of their difference. The error bars cover the finite number of examples only, not the luck of the"
        " seed: every model was trained once, and another seed may change the order."
    )
    if any(isinstance(score, ExampleScore) for r in rankings.values() for score in r.values.values()):
        text += " Likelihoods are of the same examples, so that it is their differences in each that count."
    pairs = sum(
        1
        for ranking in rankings.values()
        for a, b in combinations(ranking.values.values(), 2)
        if _has_error(a) and _has_error(b)
    )
    if pairs:
        compared = f"{pairs} pairs were" if pairs > 1 else "One pair was"
        chance = f"about {pairs * _BY_CHANCE:.2g} by chance alone"
        text += f" {compared} compared; if all models were equal, this rule would still separate {chance}."
    if comparison.other_names:
        text += " The verdict rests on the main scores; the others have a table of their own."
    return Finding("What the error bars leave out", text)


def _grouped(said: Mapping[str, str]) -> dict[str, list[str]]:
    """Model to sentence turned round: sentence to the models that it is said of."""
    groups: dict[str, list[str]] = {}
    for model, words in said.items():
        groups.setdefault(words, []).append(model)
    return groups


def _title(name: str) -> str:
    title = SCORES[name].title
    return title if title[:2].isupper() or title.startswith("Fréchet") else title[0].lower() + title[1:]


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _is(words: Sequence[object]) -> str:
    return "are" if len(words) > 1 else "is"
