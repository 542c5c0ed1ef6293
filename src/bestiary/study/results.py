"""What a comparison found: everything that the table, the verdict and the report are made from."""

import csv
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bestiary.data.specs import Spec, spec_from_dict, spec_to_dict
from bestiary.errors import OptionError, RunError
from bestiary.metrics.results import Score
from bestiary.scores import SCORES

Status = Literal["finished", "diverged", "stopped"]
Images = NDArray[np.uint8]
Curve = NDArray[np.float64]

FORMAT = 1
REAL = "real/real"


@dataclass(frozen=True)
class Progress:
    """One line of a training log.

    Attributes:
        examples: real examples drawn so far.
        seconds: time spent in moves so far.
        terms: costs and their named parts.
    """

    examples: int
    seconds: float
    terms: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One model of a comparison: what it is, what it spent, what it scored, what it draws.

    Attributes:
        model: the name it is shown under, unique within the comparison.
        family: its family in the catalogue.
        paper: title or authors of its paper.
        year: of the paper.
        run: its run folder, relative to the comparison's folder.
        status: "finished", or why its budget was not spent: "diverged" or "stopped".
        reason: one line for a status that is not "finished".
        warnings: what its training warned of, a line each.
        parameters: number of trained parameters.
        examples: real examples drawn.
        updates: optimiser steps per player.
        seconds: time spent in moves.
        flops: floating-point operations of the training, or None where they were not counted.
        arithmetic: "float32" or "bfloat16", what its costs were computed in, or "" where that is not known.
        sampling_seconds: time to draw 1,000 samples, or None where nothing was drawn.
        settings: the resolved configuration.
        scores: by name, the names of `SCORES`.
        unavailable: name of a score, or of a metric, to the reason why there is none.
        learning: the training log; empty for a model that is solved in closed form.
        precision, recall: the PRD curve, arrays of one length, or None.
        nats: −log p of each example of the split that is scored, in its order, (n,), or None.
        samples: uint8 (n, C, H, W), 0 is black and 255 white whatever the data's levels, or None.
        neighbours: uint8 (m, 2, C, H, W), pairs of a sample and its nearest training image, or None.
    """

    model: str
    family: str
    paper: str
    year: int
    run: str
    parameters: int
    examples: int
    seconds: float
    status: Status = "finished"
    reason: str = ""
    warnings: Sequence[str] = ()
    updates: Mapping[str, int] = field(default_factory=dict)
    flops: float | None = None
    arithmetic: str = ""
    sampling_seconds: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    learning: Sequence[Progress] = ()
    precision: Curve | None = None
    recall: Curve | None = None
    nats: Curve | None = None
    samples: Images | None = None
    neighbours: Images | None = None

    def missing(self, name: str) -> str:
        """Why there is no finite score of that name, or "" where there is one."""
        score = self.scores.get(name)
        if score is not None:
            return "" if math.isfinite(score.value) else "the value is not a number"
        reason = self.unavailable.get(name) or self.unavailable.get(SCORES[name].metric)
        return reason or "not measured"


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Several models on the same data under one equal budget.

    Attributes:
        data: name of the data set, with its binarisation.
        spec: what one example is.
        sizes: number of examples in each split.
        classes: names of the classes, empty where there are none.
        fingerprint: of the data, to check that a repetition uses the same.
        budget: as it was asked for.
        seed: of every training.
        split: the split that the scores are computed on.
        n: number of samples that are scored per model.
        entries: the models, in the order in which they were named.
        floors: what real data score against real data.
        floor_precision, floor_recall: the PRD curve of real against real, or None.
        notes: what to know before believing the scores, a line each.
        real: real images, uint8 (n, C, H, W), 0 is black and 255 white, or None.
        command: what repeats the comparison.
        versions: of the package and of what it is built on.
        hardware: in words.
        date: when it ended.
        seconds_total: training, sampling and scoring together; of a comparison that was interrupted, its
            scoring before that is left out.
    """

    data: str
    spec: Spec
    sizes: Mapping[str, int]
    classes: Sequence[str]
    fingerprint: str
    budget: str
    seed: int
    split: str
    n: int
    entries: Sequence[Entry]
    command: str
    versions: Mapping[str, str]
    hardware: str
    date: str
    seconds_total: float
    floors: Mapping[str, Score] = field(default_factory=dict)
    floor_precision: Curve | None = None
    floor_recall: Curve | None = None
    notes: Sequence[str] = ()
    real: Images | None = None

    def __post_init__(self) -> None:
        names = [entry.model for entry in self.entries]
        for name in names:
            if names.count(name) > 1:
                raise OptionError(f"models: found {name!r} twice, wanted every model under its own name")

    @property
    def score_names(self) -> list[str]:
        """The scores that any model has, in the order of `SCORES`."""
        return [name for name in SCORES if any(name in entry.scores for entry in self.entries)]

    @property
    def main_names(self) -> list[str]:
        """Those that the verdict rests on; all of them where none is a main score."""
        names = self.score_names
        return [name for name in names if SCORES[name].main] or names

    @property
    def other_names(self) -> list[str]:
        """Those that the verdict does not rest on, without those that stand beside another score."""
        names, main = self.score_names, self.main_names
        return [name for name in names if name not in main and SCORES[name].beside not in names]

    def save(self, folder: Path) -> None:
        """Write `comparison.json`, `comparison.csv` and `comparison.npz` into an existing folder."""
        arrays: dict[str, NDArray[Any]] = {}
        plain = _to_plain(self, arrays, "")
        text = json.dumps({"format": FORMAT, **plain}, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "comparison.json").write_text(text + "\n", encoding="utf-8")
        savez: Callable[..., None] = np.savez_compressed  # its stub takes no names from a mapping
        savez(folder / "comparison.npz", **arrays)
        with (folder / "comparison.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(self.rows())

    def rows(self) -> list[list[object]]:
        """The table as rows of plain values, names first; None where there is no number."""
        names = self.score_names
        players = sorted({player for entry in self.entries for player in entry.updates})
        header: list[object] = [
            "model", "family", "year", "status", "reason", "parameters", "examples", "seconds", "flops",
            "sampling_seconds_per_1000", *(f"updates_{player}" for player in players),
        ]  # fmt: skip
        for name in names:
            header += [name, f"{name}_error", f"{name}_protocol"]
        rows = [header]
        for e in self.entries:
            costs = [
                e.parameters,
                e.examples,
                _finite(e.seconds),
                _finite(e.flops),
                _finite(e.sampling_seconds),
            ]
            about: list[object] = [e.model, e.family, e.year, e.status, e.reason, *costs]
            about += [e.updates.get(player) for player in players]
            rows.append(about + [cell for name in names for cell in _cells(e.scores.get(name))])
        blank: list[object] = [None] * (9 + len(players))
        rows.append([REAL, *blank, *(cell for name in names for cell in _cells(self.floors.get(name)))])
        return rows

    @classmethod
    def load(cls, folder: Path) -> "Comparison":
        """Read what `save` wrote; numbers that were not finite come back as NaN.

        Raises:
            RunError: the folder holds no comparison, or a damaged one.
        """
        try:
            plain = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
            if plain.pop("format") != FORMAT:
                raise ValueError("written by another release")
            path = folder / "comparison.npz"
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            entries = plain.pop("entries")
            known: dict[str, Any] = {"entries": [_entry(e, arrays, f"{i}_") for i, e in enumerate(entries)]}
            known["spec"] = spec_from_dict(plain.pop("spec"))
            known["floors"] = _scores(plain.pop("floors"))
            known["notes"] = tuple(plain.pop("notes", ()))
            seconds_total = _number(plain.pop("seconds_total"))
            return cls(**plain, **known, seconds_total=seconds_total, **_arrays(cls, arrays, ""))
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            wanted = "wanted a folder that `bestiary compare` has written"
            raise RunError(f"{folder}: cannot read a comparison ({error}), {wanted}") from error


def is_bound(name: str, score: Score) -> bool:
    """Whether a likelihood is only a bound, so that the true value may be better.

    What does not call itself exact is taken for a bound, which claims less; so is the exact density of
    dequantised data, which only bounds the probability of the data themselves.
    """
    protocol = score.protocol.lower()
    likelihood = SCORES[name].metric in ("likelihood", "annealed")
    return likelihood and ("exact" not in protocol or "bound" in protocol)


def show(score: Score) -> str:
    """A score as text: the error bar to one digit, or to two where it is below 3.55, and the value alike."""
    if not math.isfinite(score.value):
        return "not a number"
    if score.error is None or not math.isfinite(score.error):
        return f"{score.value:.4g}"
    if score.error <= 0:
        return f"{score.value:.4g} ± 0"
    exponent = math.floor(math.log10(score.error))
    decimals = max(0, (1 if score.error < 3.55 * 10.0**exponent else 0) - exponent)
    return f"{score.value:.{decimals}f} ± {score.error:.{decimals}f}"


_ARRAYS = {"precision", "recall", "nats", "samples", "neighbours", "floor_precision", "floor_recall", "real"}


def _to_plain(owner: Comparison | Entry, arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name in (f.name for f in fields(owner)):
        value = getattr(owner, name)
        if name in _ARRAYS:
            if value is not None:
                arrays[prefix + name] = np.asarray(value)
        elif name == "entries":
            plain[name] = [_to_plain(entry, arrays, f"{i}_") for i, entry in enumerate(value)]
        else:
            plain[name] = spec_to_dict(value) if name == "spec" else _plain(value)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Score | Progress):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return _finite(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _entry(plain: dict[str, Any], arrays: Mapping[str, NDArray[Any]], prefix: str) -> Entry:
    learning = tuple(
        Progress(p["examples"], _number(p["seconds"]), {k: _number(v) for k, v in p["terms"].items()})
        for p in plain.pop("learning")
    )
    plain["warnings"] = tuple(plain.get("warnings", ()))
    seconds, scores = _number(plain.pop("seconds")), _scores(plain.pop("scores"))
    return Entry(**plain, seconds=seconds, scores=scores, learning=learning, **_arrays(Entry, arrays, prefix))


def _arrays(owner: type[Any], arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, Any]:
    return {f.name: arrays.get(prefix + f.name) for f in fields(owner) if f.name in _ARRAYS}


def _scores(plain: Mapping[str, dict[str, Any]]) -> dict[str, Score]:
    return {name: Score(**{**score, "value": _number(score["value"])}) for name, score in plain.items()}


def _cells(score: Score | None) -> list[object]:
    return [None] * 3 if score is None else [_finite(score.value), _finite(score.error), score.protocol]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value
