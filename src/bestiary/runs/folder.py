"""A run folder: what is in it, and how to open one. Nothing in it is pickled, nothing can execute.

config.yaml         immutable: model and resolved settings, data and fingerprint, budget, seed
state.json          running | finished | stopped (why) | diverged (why); versions, hardware, clock
log.jsonl           one line per logging interval: clock and terms
checkpoints/        the last two (see `training.checkpoint`)
samples/            00512000.png, or .txt of sequences: drawn while training, named by the examples drawn
scores.jsonl        one line per score
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from bestiary import catalogue
from bestiary.allocator import keep_freed_memory
from bestiary.config import plain, resolve
from bestiary.data.load import load_data
from bestiary.data.specs import ImageSpec, PointSpec, SequenceSpec, Spec, spec_from_dict, spec_to_dict
from bestiary.data.splits import Data, digest_of_examples
from bestiary.errors import BestiaryError, DataError, OptionError, RunError
from bestiary.models.base import Model
from bestiary.models.latent.fitted_prior import FITTED_PRIORS, FittedPrior
from bestiary.randomness import forked_randomness
from bestiary.runs.json_lines import read_lines
from bestiary.training.budget import Budget
from bestiary.training.checkpoint import load_weights, newest
from bestiary.training.files import told_in_one_line, write_json, write_text
from bestiary.training.runtime import Runtime, device_for

# 2 added training.compiled to config.yaml, and the manifest's own digest to checkpoints.
FORMAT = 2
LOCK = ".lock"


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a training, as plain data.

    Attributes:
        model: {"name": of the catalogue, or of your class; "settings": resolved keyword arguments}; of a
            fitted prior also the "encoder" that it was fitted for, which is described in the same way.
        data: {"name", "source", "options", "fingerprint", "spec"}.
        budget: as text.
        seed: of initial weights (where `create` was used), batch order and moves.
        training: {"precision", "compiled", "accumulate"}.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    budget: str
    seed: int
    training: dict[str, Any]

    @classmethod
    def of(
        cls, model: Model, data: Data, *, budget: Budget, seed: int, runtime: Runtime, accumulate: int
    ) -> "RunConfig":
        """The configuration of a training that is about to start."""
        return cls(
            model=describe_model(model),
            data={
                "name": data.name,
                "source": data.source,
                "options": plain(data.options),
                "fingerprint": data.fingerprint or digest_of_examples(data),
                "spec": spec_to_dict(data.spec),
            },
            budget=str(budget),
            seed=seed,
            training={
                "precision": runtime.precision,
                "compiled": runtime.compiled,
                "accumulate": accumulate,
            },
        )

    @property
    def spec(self) -> Spec:
        """What one example is."""
        spec: Spec = spec_from_dict(self.data["spec"])
        return spec

    def first_difference(self, other: "RunConfig") -> tuple[str, Any, Any] | None:
        """The dotted name of the first field that differs, with both values; None where all agree."""
        mine, theirs = dict(_leaves(asdict(self))), dict(_leaves(asdict(other)))
        for name in [*mine, *theirs]:
            if mine.get(name) != theirs.get(name):
                return name, mine.get(name), theirs.get(name)
        return None


def model_name(model: Model) -> str:
    """The catalogue's name for a model, that of a fitted prior, or that of your own class."""
    fitted = (name for name, kind in FITTED_PRIORS.items() if type(model) is kind)
    return next(fitted, None) or catalogue.name_of(model) or type(model).__qualname__


def describe_model(model: Model) -> dict[str, Any]:
    """What a model is made of, as plain data (see `RunConfig.model`)."""
    found = {"name": model_name(model), "settings": plain(model.settings)}
    return {**found, "encoder": describe_model(model.encoder)} if isinstance(model, FittedPrior) else found


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


_COUNTED = ("examples", "rounds", "seconds", "progress")
_NO_STATE: dict[str, Any] = {"status": "running", "reason": "no state was written yet", "clock": {}}


@dataclass(frozen=True)
class Run:
    """An opened run folder.

    Attributes:
        folder: its path.
    """

    folder: Path

    @cached_property
    def config(self) -> RunConfig:
        """What was trained, on what, how.

        Raises:
            RunError: the folder is no run, or its config file is damaged.
        """
        return read_config(self.folder)

    @property
    def state(self) -> dict[str, Any]:
        """Status, reason, clock, versions and hardware, as last written."""
        try:
            state: dict[str, Any] = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
            state = {**_NO_STATE, **state}
            if not all(isinstance(state["clock"].get(name, 0), int | float) for name in _COUNTED):
                raise ValueError("no clock")
            return state
        except (OSError, ValueError, TypeError, AttributeError):
            return dict(_NO_STATE)

    @property
    def status(self) -> str:
        """running, finished, stopped or diverged."""
        return str(self.state["status"])

    @cached_property
    def model(self) -> Model:
        """The trained model, with averaged weights where there are any."""
        return load(self.folder)

    @cached_property
    def data(self) -> Data:
        """What the run was trained on, loaded anew.

        Raises:
            DataError: the data are missing or damaged, or came from code.
        """
        if not self.config.data["source"]:
            name = self.config.data["name"]
            raise DataError(f"data: those of this run, {name!r}, came from code, wanted them as `data=`")
        return load_data(self.config.data["source"], **self.config.data["options"])

    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl: clock and terms of each logging interval."""
        return read_lines(self.folder / "log.jsonl")

    def scores(self) -> list[dict[str, Any]]:
        """The lines of scores.jsonl."""
        return read_lines(self.folder / "scores.jsonl")

    def write_state(self, status: str, reason: str, **more: Any) -> None:
        """Replace state.json."""
        config = digest((self.folder / "config.yaml").read_text(encoding="utf-8"))
        content = {"format": FORMAT, "status": status, "reason": reason, "config_sha256": config, **more}
        write_json(self.folder / "state.json", content)


def open_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunError: there is no such folder, or it is no run.
    """
    path = Path(folder)
    if not path.is_dir():
        raise RunError(f"run: found no folder {str(folder)!r}, wanted one that `bestiary train` made")
    run = Run(path)
    _ = run.config
    return run


def read_config(folder: Path) -> RunConfig:
    """Read config.yaml.

    Raises:
        RunError: there is none, or it is damaged.
    """
    path = folder / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        written = content.pop("format")
        if not isinstance(written, int) or written > FORMAT:
            raise RunError(f"{path}: format {written} was written by a newer bestiary: update the package")
        if written == 1:
            content["training"]["compiled"] = False
        config = RunConfig(**resolve(_config_fields, content, owner="config.yaml"))
        resolve(_model_fields, config.model, owner="model")
        resolve(_data_fields, config.data, owner="data")
        if config.spec.dimensions > _LARGEST_EXAMPLE:
            raise OptionError(f"spec: found {config.spec.shape}, wanted numbers that fit into memory")
    except FileNotFoundError:
        raise RunError(
            f"{folder}: is no run folder (it has no config.yaml), wanted one that `bestiary train` made"
        ) from None
    except (
        OSError,
        yaml.YAMLError,
        AttributeError,
        TypeError,
        KeyError,
        OptionError,
        UnicodeDecodeError,
    ) as error:
        raise RunError(
            f"{path}: damaged ({' '.join(str(error).split())}), the run cannot be opened"
        ) from error
    if Run(folder).state.get("config_sha256", digest(text)) != digest(text):
        raise RunError(
            f"{path}: is not the file that the run was started with, going by state.json: put back the one"
            " that was, or delete state.json if it is that which is damaged"
        )
    return config


_LARGEST_EXAMPLE = 2**28  # numbers

# The signatures below are the file's schema.


def _config_fields(
    *, model: dict[str, Any], data: dict[str, Any], budget: str, seed: int, training: dict[str, Any]
) -> None: ...


def _model_fields(*, name: str, settings: dict[str, Any], encoder: dict[str, Any] | None = None) -> None: ...


def _data_fields(
    *, name: str, source: str | None, options: dict[str, Any], fingerprint: str, spec: dict[str, Any]
) -> None: ...


def digest(config: str) -> str:
    """SHA-256 of a config file's text, which state.json holds too: the file never changes."""
    return hashlib.sha256(config.encode()).hexdigest()


def write_config(folder: Path, config: RunConfig) -> None:
    """Write config.yaml, once."""
    text = yaml.safe_dump({"format": FORMAT, **asdict(config)}, sort_keys=False, allow_unicode=True)
    write_text(folder / "config.yaml", text)


def load(
    folder: str | Path, *, model: type[Model] | None = None, averaged: bool = True, device: str = "cpu"
) -> Model:
    """Open a trained model.

    Arguments:
        folder: of the run.
        model: your own class, for a run of a model that is not of the catalogue; the folder itself never
            names code to import.
        averaged: use averaged weights where there are any.
        device: "cpu", "cuda", "mps", or "auto" for the fastest there is.

    Raises:
        RunError: no run folder, no sound checkpoint, or weights that do not fit.
        OptionError: a model that the catalogue does not have, and no `model=`; a device that this machine
            does not have.
    """
    keep_freed_memory()
    run = open_run(folder)
    with forked_randomness(0):
        built = _build(run.config.model, run.config.spec, model, folder)
    found = newest(run.folder / "checkpoints")
    if found is None:
        state = run.state
        why = f"{state['status']}: {state['reason']}" if state["reason"] else state["status"]
        if state["status"] == "finished":
            raise RunError(f"{folder}: its checkpoints are gone: put them back, or train anew")
        remedy = (
            "train again with other settings" if state["status"] == "diverged" else "train it with --resume"
        )
        raise RunError(f"{folder}: no checkpoint was written yet ({why}): {remedy}")
    load_weights(built, *found, averaged=averaged)
    return built.eval().to(device_for(built, device))


def _build(described: Mapping[str, Any], spec: Spec, own: type[Model] | None, folder: str | Path) -> Model:
    """A model of this description, untrained; `own` is the class of one that is not of the catalogue."""
    name, settings = described["name"], described["settings"]
    if name in FITTED_PRIORS:
        kind = FITTED_PRIORS[name]
        encoder = _build(described["encoder"], spec, None if own is kind else own, folder)
        return kind(encoder, **settings)
    if own is None:
        try:
            own = catalogue.entry(name).load()
        except OptionError as error:
            raise OptionError(
                f"{folder}: a run of {name!r}, which is not in the catalogue: pass the class as model={name}"
            ) from error
    elif own.__qualname__ != name and catalogue.ALIASES.get(name, name) not in catalogue.CATALOGUE:
        raise OptionError(f"model: found {own.__qualname__}, but {folder} is a run of {name}")
    return own(spec, **settings)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock, which the operating system releases even after kill -9.

    Raises:
        RunError: another process is writing this run.
    """
    lock = FileLock(folder / LOCK)
    with told_in_one_line(str(folder)):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"{folder}: another process is writing this run: wait for it, or choose another --out"
            ) from None
    try:
        yield
    finally:
        lock.release()


def next_folder(name: str, parent: Path = Path("runs")) -> Path:
    """The first free folder runs/name-001, runs/name-002, …"""
    number = 1
    while (parent / f"{name}-{number:03d}").exists():
        number += 1
    return parent / f"{name}-{number:03d}"


def check_same_data(spec: Spec, data: Data, what: str) -> None:
    """Refuse data whose examples are not what a model was made for.

    Raises:
        BestiaryError: another shape, number of levels, or kind.
    """
    if spec != data.spec:
        raise BestiaryError(
            f"{what}: was made for {describe(spec)}, but {data.name} has {describe(data.spec)}"
        )


def describe(spec: Spec) -> str:
    """A spec in words: "1x28x28 images of 256 levels"."""
    shape = "x".join(map(str, spec.shape))
    if isinstance(spec, ImageSpec):
        words = f"{shape} images of {spec.levels} levels"
    elif isinstance(spec, SequenceSpec):
        words = f"sequences of {spec.length} symbols out of {spec.vocabulary}"
    else:
        words = (
            f"points of R^{shape}" if isinstance(spec, PointSpec) else f"a {type(spec).__name__} of {shape}"
        )
    return words + (f" with condition {spec.condition}" if spec.condition else "")
