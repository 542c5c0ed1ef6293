"""What a study is: arms and their spaces, what is made equal, draws and seeds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from bestiary import catalogue
from bestiary.config import plain
from bestiary.models.base import Model
from bestiary.scores import SCORES
from bestiary.study.plan.spaces import Space
from bestiary.training.runtime import Precision

Saved = Literal["report", "draws"]


@dataclass(frozen=True)
class Source:
    """Data by name, so that every process can load them: `load_data(name, **options)`."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Arm:
    """A model with its default setting and what is searched around it.

    Attributes:
        name: unique in the study, fit for a folder.
        model: of the catalogue, or your own class.
        settings: the default setting, every option of the constructor.
        space: option to where its draws come from.
    """

    name: str
    model: str | type[Model]
    settings: Mapping[str, Any]
    space: Space

    @property
    def kind(self) -> type[Model]:
        """The model's class."""
        return catalogue.entry(self.model).load() if isinstance(self.model, str) else self.model

    @property
    def model_name(self) -> str:
        """The catalogue's name of the model, or that of your own class."""
        return self.model if isinstance(self.model, str) else self.model.__qualname__


@dataclass(frozen=True)
class Selection:
    """How winners are chosen: a score on `n` examples of the validation split."""

    score: str
    n: int
    embedding: str

    @property
    def maximise(self) -> bool:
        """Whether a larger score is better."""
        return SCORES[self.score].better == "higher"


@dataclass(frozen=True)
class Search:
    """How settings are drawn: "random", or "tpe" guided by `scores`, several of which are weighed by none."""

    method: Literal["random", "tpe"]
    scores: tuple[str, ...]


@dataclass(frozen=True)
class Halving:
    """Successive halving: of each arm's trials the best 1/factor go on at every rung.

    Without `stop` all of them go on, scored at every rung: the study then knows who is ahead at which budget,
    and what halving would have found and saved.

    Attributes:
        factor: η; also the ratio of two rungs' budgets.
        rungs: how many, the last one at the whole budget.
        saved: what becomes of the compute that it saves: "report" it, or buy more "draws" with it.
        stop: whether the others are given up.
    """

    factor: int = 3
    rungs: int = 3
    saved: Saved = "report"
    stop: bool = True


@dataclass(frozen=True)
class Report:
    """What winners are scored by on the test split; None for metrics that cost little and suit the data."""

    metrics: tuple[str, ...] | None
    n: int
    embedding: str


@dataclass(frozen=True)
class Study:
    """A study that could start now, as `read_study` makes it; `schema` says what its fields mean."""

    name: str
    data: Source
    budget: str
    draws: int
    seed: int
    arms: tuple[Arm, ...]
    selection: Selection
    search: Search
    halving: Halving | None
    report: Report
    retrain_seeds: int
    elsewhere: tuple[Source, ...]
    retries: int
    precision: Precision

    def arm(self, name: str) -> Arm:
        """The arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)

    def to_plain(self) -> dict[str, Any]:
        """The study as its file would say it in full; `make_study` is the inverse."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content["arms"] = {
            arm.name: {
                "model": arm.model_name,
                "settings": plain(arm.settings),
                "space": {option: dimension.to_plain() for option, dimension in arm.space.items()},
            }
            for arm in self.arms
        }
        for name in ("selection", "search", "report", "halving"):
            content[name] = False if content[name] is None else plain(asdict(content[name]))
        content["data"] = plain_source(self.data)
        content["elsewhere"] = [plain_source(source) for source in self.elsewhere]
        return {**content, "space": {}}  # every arm has its whole space


def plain_source(source: Source) -> str | dict[str, Any]:
    """Data as a study file names them."""
    return {"source": source.name, "options": plain(source.options)} if source.options else source.name
