"""The figures of docs/numbers.md: each metric on cases whose truth is known.

    OMP_NUM_THREADS=1 python benchmarks/figures.py
    python benchmarks/figures.py parzen paired
    python benchmarks/figures.py --draw

The first command measures everything and draws it; the second measures two figures again; the third draws
all from the numbers that are stored. Numbers go to figures.json beside this file, figures to
docs/_static/numbers. Features are kept in the cache folder.
"""

import argparse
import importlib.metadata
import json
import sys
import time
from pathlib import Path

import figure_cases as of_clothes
import figure_cases_known as known
from figure_drawing import FIGURES
from figure_style import standalone

STORED = Path(__file__).with_suffix(".json")
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib")
FOLDER = Path(__file__).parent.parent / "docs" / "_static" / "numbers"

MEASURED_ON_CLOTHES = (
    of_clothes.overview,
    of_clothes.sizes,
    of_clothes.same_moments,
    of_clothes.few_broken,
    of_clothes.prd,
    of_clothes.memorisation,
    of_clothes.parzen,
    of_clothes.paired,
)
MEASURED = (known.outlier, known.modes, known.likelihood, known.polygons)


def main():
    names = [function.__name__ for function in (*MEASURED_ON_CLOTHES, *MEASURED)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"what to measure, of: {', '.join(names)}; all by default")
    parser.add_argument("--draw", action="store_true", help="only draw what is stored")
    options = parser.parse_args()
    if set(options.names) - set(names):
        parser.error(f"names: found {' '.join(options.names)}, wanted some of: {', '.join(names)}")
    found = json.loads(STORED.read_text()) if STORED.exists() else {}
    clothes = None
    for function in () if options.draw else (*MEASURED, *MEASURED_ON_CLOTHES):
        name = function.__name__
        if options.names and name not in options.names:
            continue
        start = time.process_time()
        if function in MEASURED:
            found[name] = function()
        else:
            clothes = clothes or of_clothes.Clothes()
            found[name] = function(clothes)
        seconds = round(time.process_time() - start, 1)
        found["about"] = found.get("about", {}) | {
            "versions": {p: importlib.metadata.version(p) for p in PACKAGES},
            "date": time.strftime("%Y-%m-%d"),
            "cpu_seconds": found.get("about", {}).get("cpu_seconds", {}) | {name: seconds},
        }
        text = json.dumps(found, indent=1, ensure_ascii=False)
        STORED.write_text(text + "\n")
        found = json.loads(text)  # as it is read when it is only drawn
        print(f"{name}: {seconds} s", file=sys.stderr, flush=True)
    missing = set(names) - set(found)
    if missing:
        sys.exit(f"nothing is drawn before all is measured: {', '.join(sorted(missing))}")
    for figure, label in FIGURES.items():
        path = FOLDER / f"{figure.__name__}.svg"
        path.write_text(standalone(figure, found, label))
        print(path)


if __name__ == "__main__":
    main()
