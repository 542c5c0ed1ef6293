"""How a study is written: one schema for YAML files and Python.

    name: first
    data: fashion-mnist                       # or {source: folder, options: {path: pictures, size: 64}}
    budget: 5000 discriminator updates        # of each trial; of a lone player for models that have one
    draws: 8                                  # of each arm; draw 0 is its default setting
    seed: 0                                   # of draws, and from it of every trial
    preset: laptop                            # or paper: settings under `common` and the arms' own
    common: {channels: 32}                    # settings of every arm that has such an option
    arms:                                     # or a list of names
      ns-gan:
      wide-vae: {model: vae, settings: {hidden: [1000]}, space: {latent_dim: [2, 10, 50]}}
    search: random                            # or tpe, or {method: tpe, scores: [frechet, prd_f8]}
    halving: false                            # or {factor: 3, rungs: 3, saved: report, stop: true}
    selection: {score: frechet, n: 5000}      # on the validation split
    report: {metrics: [fid], n: 10000}        # on the test split, of the winners alone, read once
    retrain_seeds: 3
    elsewhere: [mnist]                        # the winners' settings on other data, without tuning
    retries: 3                                # deaths in a row without progress, before a trial has failed

What is searched are the ranges of the constructors' `Search` annotations, or, where the study has a `space`
of its own, the options named there that an arm has; an arm's `space` goes over either, and null takes an
option out. A range is `{low: 1e-4, high: 1e-2, log: true}`, choices are a list.
"""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from bestiary import catalogue
from bestiary.config import Ge, Seed, options, plain, resolve
from bestiary.data.datasets import DATASETS
from bestiary.data.splits import Data
from bestiary.errors import OptionError, unknown_name
from bestiary.models.base import Model
from bestiary.runs.evaluation import check_metrics
from bestiary.scores import DEFAULT_EMBEDDING, EMBEDDINGS, SCORES
from bestiary.study.plan.design import Arm, Halving, Report, Saved, Search, Selection, Source, Study
from bestiary.study.plan.spaces import arm_space
from bestiary.training.budget import parse_budget
from bestiary.training.runtime import Precision


def make_study(
    content: Mapping[str, Any], *, owner: str = "study", name: str = "study", known: Collection[str] = ()
) -> Study:
    """Check a study's fields and fill in what is missing.

    Arguments:
        content: the fields, as in the YAML file; `data` may be a `Data`, an arm's `model` a class.
        owner: what messages call it.
        name: of a study that does not say its own.
        known: options that `common` and `space` may name although no arm has them, as a preset's of arms that
            were left out.

    Raises:
        OptionError: a field, model, option, score or range that does not exist or is not valid.
    """
    found = resolve(_fields, content, owner=owner)
    selection = Selection(
        **resolve(_selection_fields, _section(found["selection"], "score"), owner="selection")
    )
    _check_score(selection.score, "selection")
    _check_embedding(selection.embedding, "selection")
    search = resolve(_search_fields, _section(found["search"], "method"), owner="search")
    for score in search["scores"] or ():
        _check_score(score, "search")
    report = resolve(_report_fields, found["report"] or {}, owner="report")
    _check_embedding(report["embedding"], "report")
    metrics = None if report["metrics"] is None else tuple(check_metrics(report["metrics"]))
    named = found["name"] or name
    if not re.fullmatch(r"[\w][\w .+-]*", named):
        raise OptionError(
            f"name: found {named!r}, which fits no folder, wanted letters, digits and any of -+._"
        )
    return Study(
        name=named,
        data=_source(found["data"], "data"),
        budget=str(parse_budget(found["budget"])),
        draws=found["draws"],
        seed=found["seed"],
        arms=_arms(found, known),
        selection=selection,
        search=Search(search["method"], tuple(search["scores"] or [selection.score])),
        halving=_halving(found["halving"]),
        report=Report(metrics, report["n"], report["embedding"]),
        retrain_seeds=found["retrain_seeds"],
        elsewhere=tuple(_source(one, "elsewhere") for one in found["elsewhere"] or ()),
        retries=found["retries"],
        precision=found["precision"],
    )


def _arms(found: Mapping[str, Any], known: Collection[str]) -> tuple[Arm, ...]:
    listed = found["arms"]
    if isinstance(listed, list | tuple):
        for name in listed:
            if not isinstance(name, str):
                raise OptionError(
                    f"arms: found {name!r} in the list, wanted names; fields need 'name: fields'"
                )
            if list(listed).count(name) > 1:
                raise OptionError(f"arms: found {name!r} twice, wanted every arm under its own name")
        listed = dict.fromkeys(listed)
    if not isinstance(listed, Mapping) or not listed:
        raise OptionError(
            f"arms: found {found['arms']!r}, wanted names of models, or a name and its fields each"
        )
    arms = tuple(_arm(str(name), fields or {}, found) for name, fields in listed.items())
    for option in {**(found["common"] or {}), **(found["space"] or {})}:
        if option not in known and all(option not in arm.settings for arm in arms):
            every = {name for arm in arms for name in arm.settings}
            raise unknown_name("option of any arm", option, every)
    return arms


def _arm(name: str, content: Any, found: Mapping[str, Any]) -> Arm:
    owner = f"arms: {name}"
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
        raise OptionError(
            f"{owner}: found a name that fits no folder, wanted letters, digits and any of -+._"
        )
    own = resolve(_arm_fields, _section(content, "model"), owner=owner)
    model, base = own["model"] or name, {}
    if isinstance(model, str):
        entry = catalogue.entry(model)
        model, kind, base = entry.name, entry.load(), entry.settings(found["preset"])
    elif isinstance(model, type) and issubclass(model, Model):
        kind = model
    else:
        raise OptionError(f"{owner}: found model {model!r}, wanted a name of the catalogue, or a class")
    common = {k: v for k, v in (found["common"] or {}).items() if k in options(kind)}
    settings = plain(resolve(kind, {**base, **common, **(own["settings"] or {})}, owner=owner))
    return Arm(name, model, settings, arm_space(kind, found["space"], own["space"], settings, owner))


def _halving(content: bool | Mapping[str, Any]) -> Halving | None:
    if content is False:
        return None
    found = Halving(**resolve(_halving_fields, {} if content is True else content, owner="halving"))
    if found.saved == "draws" and not found.stop:
        raise OptionError("saved: found 'draws' with stop=false, which saves nothing, wanted 'report'")
    return found


def _source(value: Any, field: str) -> Source:
    if isinstance(value, Data):
        if not value.source:
            raise OptionError(f"{field}: found data made by hand, wanted some of load_data, or their name")
        return Source(value.source, plain(value.options))
    found = resolve(_source_fields, _section(value, "source"), owner=field)
    name, settings = found["source"], dict(found["options"] or {})
    if "/" in name or os.sep in name or (Path(name).is_dir() and name not in DATASETS):
        name = str(Path(name).absolute())  # workers may be elsewhere
    if settings.get("path"):
        settings["path"] = str(Path(str(settings["path"])).expanduser().absolute())
    return Source(name, settings)


def _section(content: Any, short: str) -> dict[str, Any]:
    """A section, or the one field that it may be shortened to."""
    return {str(k): v for k, v in content.items()} if isinstance(content, Mapping) else {short: content}


def _check_score(name: str, field: str) -> None:
    if name not in SCORES:
        raise unknown_name(f"score of {field}", name, SCORES)
    if SCORES[name].better == "neither":
        raise OptionError(f"{field}: found {name!r}, of which neither more nor less is better")


def _check_embedding(name: str, field: str) -> None:
    if name not in EMBEDDINGS:
        raise unknown_name(f"embedding of {field}", name, EMBEDDINGS)


# The signatures below are the file's schema, checked like every other configuration of the package.


def _fields(
    *,
    name: str | None = None,
    data: Any,
    budget: str,
    arms: Any,
    draws: Annotated[int, Ge(1)] = 8,
    seed: Seed = 0,
    preset: catalogue.Preset = "laptop",
    common: dict[str, Any] | None = None,
    space: dict[str, Any] | None = None,
    selection: str | dict[str, Any] = "frechet",
    search: str | dict[str, Any] = "random",
    halving: bool | dict[str, Any] = False,
    report: dict[str, Any] | None = None,
    retrain_seeds: Annotated[int, Ge(0)] = 3,
    elsewhere: list[Any] | None = None,
    retries: Annotated[int, Ge(0)] = 3,
    precision: Precision = "auto",
) -> None: ...


def _arm_fields(
    *, model: Any = None, settings: dict[str, Any] | None = None, space: dict[str, Any] | None = None
) -> None: ...


def _source_fields(*, source: str, options: dict[str, Any] | None = None) -> None: ...


def _selection_fields(
    *, score: str = "frechet", n: Annotated[int, Ge(2)] = 10_000, embedding: str = DEFAULT_EMBEDDING
) -> None: ...


def _search_fields(
    *, method: Literal["random", "tpe"] = "random", scores: list[str] | None = None
) -> None: ...


def _halving_fields(
    *,
    factor: Annotated[int, Ge(2)] = 3,
    rungs: Annotated[int, Ge(2)] = 3,
    saved: Saved = "report",
    stop: bool = True,
) -> None: ...


def _report_fields(
    *,
    metrics: list[str] | None = None,
    n: Annotated[int, Ge(2)] = 10_000,
    embedding: str = DEFAULT_EMBEDDING,
) -> None: ...
