"""One row of the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from bestiary.errors import unknown_name

if TYPE_CHECKING:
    from bestiary.models.base import Model

Family = Literal["autoregressive", "latent", "adversarial", "hybrid", "translation", "baseline"]
Preset = Literal["paper", "laptop"]


@dataclass(frozen=True)
class CatalogueEntry:
    """One named model.

    Attributes:
        name: what people type.
        path: "module:Class".
        family: which of the six families.
        summary: one line for the list.
        paper: title, authors, year.
        arxiv: number of the paper, or where it was published.
        year: of the paper.
        identity: settings that make the class this model.
        defaults: other settings of its paper; the rest are the constructor's own defaults.
        laptop: settings of the reduced preset, on top of these.
        aliases: other names that people type.
    """

    name: str
    path: str
    family: Family
    summary: str
    paper: str
    arxiv: str
    year: int
    identity: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    laptop: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def load(self) -> "type[Model]":
        """The model's class."""
        module, _, name = self.path.partition(":")
        kind: type[Model] = getattr(import_module(module), name)
        return kind

    def settings(self, preset: Preset = "paper") -> dict[str, Any]:
        """The settings of a preset, before the constructor's own defaults."""
        if preset not in ("paper", "laptop"):
            raise unknown_name("preset", preset, ["paper", "laptop"])
        return {**self.identity, **self.defaults, **(self.laptop if preset == "laptop" else {})}
