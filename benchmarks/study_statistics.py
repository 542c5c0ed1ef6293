"""Do a study's bands cover what they say, and are identical arms told apart no more often than stated?

Simulates studies whose arms have known score laws, n draws an arm: in each, the band of the median best of k
draws either holds the true median or not; the interval of the chance that one arm beats another either holds
the true chance or not; arms with the same law are either called distinguishable or not. Beside the band
stands the plain bootstrap of the minimum. The binomial deviation of a rate of 95 % over 1,000 studies is
0.7 points.
"""

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from bestiary.study.analysis.statistics import (
    LEVEL,
    bootstrap_of_minimum,
    compare_best,
    expected_best,
    holm,
    median_band,
)

FAMILY = 5
PARTS = ((0.6, 30.0, 3.0), (0.25, 80.0, 15.0))  # weight, mean, deviation; the rest fails
FIXED = -0.5  # the score of a default setting, at the 31 % quantile of the normal law


@dataclass(frozen=True)
class Law:
    """How the n draws of an arm are made, and the law that a draw of them, picked at random, has."""

    draw: Callable[[np.random.Generator, int], np.ndarray]
    cdf: Callable[[np.ndarray, int], np.ndarray]
    bracket: tuple[float, float] = (-9.0, 9.0)
    failures: bool = False

    def median_best(self, k: int, n: int) -> float:
        q = 1 - 2 ** (-1 / k)
        return optimize.brentq(lambda x: self.cdf(np.array(x), n) - q, *self.bracket, xtol=1e-12)


def bimodal(generator: np.random.Generator, n: int) -> np.ndarray:
    kind = generator.choice(3, size=n, p=[0.6, 0.25, 0.15])
    scores = [generator.normal(mean, deviation, n) for _, mean, deviation in PARTS]
    return np.choose(kind, [*scores, np.full(n, np.inf)])


LAWS = {
    "normal": Law(lambda g, n: g.normal(size=n), lambda x, n: stats.norm.cdf(x)),
    "lognormal": Law(
        lambda g, n: g.lognormal(3.5, 0.8, n),
        lambda x, n: stats.norm.cdf((np.log(x) - 3.5) / 0.8),
        (1e-3, 1e5),
    ),
    "bimodal, 15 % fail": Law(
        bimodal,
        lambda x, n: sum(w * stats.norm.cdf(x, m, s) for w, m, s in PARTS),
        (-100.0, 500.0),
        failures=True,
    ),
    # A study's first draw is the default setting: here always the same score.
    "normal, first draw fixed": Law(
        lambda g, n: np.concatenate([[FIXED], g.normal(size=n - 1)]),
        lambda x, n: ((x >= FIXED) + (n - 1) * stats.norm.cdf(x)) / n,
    ),
}
# Second arms whose law is another than the first one's, a standard normal: location and scale.
OTHERS = {"shifted by 1": (1.0, 1.0), "shifted by 2": (2.0, 1.0), "3 times as wide": (0.0, 3.0)}


def bands(law: Law, n: int, studies: int, generator: np.random.Generator) -> dict[str, object]:
    """The rate at which the true median best lies in the band, and in the bootstrap's interval."""
    truth = np.array([law.median_best(k, n) for k in range(1, n + 1)])
    inside, bootstrap, means, unbiased = [], [], [], []
    for _ in range(studies):
        scores = law.draw(generator, n)
        lower, upper = median_band(scores)
        inside.append(np.where(np.isnan(lower), np.nan, (lower <= truth) & (truth <= upper)))
        mean, low, high = bootstrap_of_minimum(scores)
        bootstrap.append((low <= truth) & (truth <= high))
        means.append(mean)
        unbiased.append(expected_best(scores))
    covered, plain = np.mean(inside, axis=0), np.mean(bootstrap, axis=0)
    defined = int((~np.isnan(covered)).sum())
    ks = sorted({1, defined, max(1, n // 2), n})
    found: dict[str, object] = {
        "band is defined to k": defined,
        "band covers": {k: covered[k - 1] for k in range(1, defined + 1)},
        "band covers, lowest": covered[:defined].min(),
        "bootstrap covers": {k: plain[k - 1] for k in ks},
    }
    if not law.failures and law is not LAWS["normal, first draw fixed"]:
        grid = np.concatenate([law.draw(generator, 400_000)])
        exact = {k: expected_of_quantiles(grid, k) for k in ks}
        found["expected best"] = exact
        found["unbiased estimate, mean"] = {k: float(np.mean([u[k - 1] for u in unbiased])) for k in ks}
        found["bootstrap estimate, mean"] = {k: float(np.mean([m[k - 1] for m in means])) for k in ks}
    return found


def expected_of_quantiles(sample: np.ndarray, k: int) -> float:
    """E[min of k] from a large sample, by the unbiased weights (the recursion of their ratios)."""
    ordered, n = np.sort(sample), len(sample)
    ratios = (n - np.arange(1, n) - (k - 1)) / (n - np.arange(1, n))
    weights = k / n * np.concatenate([[1.0], np.cumprod(ratios.clip(min=0))])
    return float(weights @ ordered)


def identical(law: Law, n: int, k: int, studies: int, generator: np.random.Generator) -> dict[str, float]:
    """How often two arms with one law are told apart, and how often any two of five are, after Holm."""
    single, anyone, holds = [], [], []
    for _ in range(studies):
        arms = [law.draw(generator, n) for _ in range(FAMILY)]
        found = [compare_best(a, b, k) for a, b in combinations(arms, 2)]
        single.append(found[0].p <= 1 - LEVEL)
        holds.append(found[0].low <= 0.5 <= found[0].high)
        anyone.append(min(holm([pair.p for pair in found])) <= 1 - LEVEL)
    return {
        "two arms called distinguishable": float(np.mean(single)),
        f"any of {FAMILY} arms called distinguishable": float(np.mean(anyone)),
        "interval covers 1/2": float(np.mean(holds)),
    }


def different(n: int, k: int, studies: int, generator: np.random.Generator) -> dict[str, dict[str, float]]:
    """How often arms with different laws are told apart, and the interval holds the true chance."""
    rows = {}
    for name, (location, scale) in OTHERS.items():
        big = np.random.default_rng(1).normal(size=(2, 200_000, k)).min(axis=2)
        other = np.random.default_rng(2).normal(location, scale, size=(200_000, k)).min(axis=1)
        truth = float(np.mean(big[0] < other))
        holds, apart = [], []
        for _ in range(studies):
            found = compare_best(generator.normal(size=n), generator.normal(location, scale, n), k)
            holds.append(found.low <= truth <= found.high)
            apart.append(found.p <= 1 - LEVEL)
        rows[name] = {
            "true chance": truth,
            "interval covers": float(np.mean(holds)),
            "called distinguishable": float(np.mean(apart)),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1_000)
    parser.add_argument("--draws", type=int, nargs="+", default=[8, 40])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the result; it is printed in any case")
    options = parser.parse_args()
    start, table = time.perf_counter(), {}
    for n in options.draws:
        generator = np.random.default_rng([options.seed, n])
        rows: dict[str, object] = {}
        for name, law in LAWS.items():
            row = bands(law, n, options.studies, generator)
            last = row["band is defined to k"]
            row["identical arms"] = {
                k: identical(law, n, k, options.studies, generator) for k in sorted({1, last})
            }
            rows[name] = row
            print(f"n = {n}, {name}: {json.dumps(row, indent=1)}", flush=True)
        rows["a standard normal arm beside one that is"] = {
            k: different(n, k, options.studies, generator) for k in sorted({1, last})
        }
        print(json.dumps(rows["a standard normal arm beside one that is"], indent=1), flush=True)
        table[f"n = {n}"] = rows
    if options.out:
        about = {
            "command": " ".join(["python", *sys.argv]),
            "date": time.strftime("%Y-%m-%d"),
            "versions": {name: importlib.metadata.version(name) for name in ("bestiary", "numpy", "scipy")},
            "studies": options.studies,
            "level": LEVEL,
            "seed": options.seed,
            "seconds": round(time.perf_counter() - start, 1),
        }
        options.out.write_text(json.dumps({**about, "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
