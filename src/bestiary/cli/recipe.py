"""What to train, from a YAML file and the command line, which wins.

The file has the fields of a run's own config.yaml; everything but the model's name may be missing:

    model: {name: vae, preset: laptop, settings: {latent_dim: 8}}     or   model: vae
    data: {source: mnist, options: {binarise: fixed}}                 or   data: mnist-fixed
    budget: 2 epochs
    seed: 0
    training: {precision: auto, compiled: false, accumulate: 1}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from bestiary.catalogue import Preset, entry
from bestiary.cli.options import Precision
from bestiary.config import Ge, Seed, resolve
from bestiary.errors import OptionError
from bestiary.yaml_file import read_mapping


@dataclass(frozen=True)
class Recipe:
    """Everything that a training is made from; None where nobody has said anything.

    Attributes:
        model: name of the catalogue.
        preset: of the model's settings.
        settings: of the model, over the preset's.
        data: name of a data set, or path of a folder.
        data_options: of its loader.
        fingerprint: what the data had when the file was written.
        budget: as text.
        seed: of everything.
        precision: of the computation.
        compiled: whether `torch.compile` is used.
        accumulate: parts of each batch.
    """

    model: str | None = None
    preset: Preset | None = None
    settings: Mapping[str, Any] | None = None
    data: str | None = None
    data_options: Mapping[str, Any] | None = None
    fingerprint: str | None = None
    budget: str | None = None
    seed: int | None = None
    precision: Precision | None = None
    compiled: bool | None = None
    accumulate: int | None = None

    def under(self, typed: "Recipe") -> "Recipe":
        """This one, from a file, changed by what was typed.

        Raises:
            OptionError: the file's settings are of another model than the one that was typed.
        """
        model = typed.model or self.model
        if self.model and self.settings and typed.model and entry(typed.model) != entry(self.model):
            raise OptionError(
                f"MODEL: found {typed.model!r}, but the config file has settings of {self.model!r}:"
                " leave one of them out"
            )
        other_data = typed.data is not None
        return Recipe(
            model=model,
            preset=typed.preset or self.preset,
            settings={**(self.settings or {}), **(typed.settings or {})},
            data=typed.data if other_data else self.data,
            data_options={**({} if other_data else self.data_options or {}), **(typed.data_options or {})},
            fingerprint=None if other_data or typed.data_options else self.fingerprint,
            budget=self.budget if typed.budget is None else typed.budget,
            seed=self.seed if typed.seed is None else typed.seed,
            precision=typed.precision or self.precision,
            compiled=self.compiled if typed.compiled is None else typed.compiled,
            accumulate=typed.accumulate or self.accumulate,
        )


def read_recipe(path: Path) -> Recipe:
    """Read a YAML file, a run's own config.yaml or one written by hand.

    Raises:
        OptionError: a file that is not there or no YAML, or a field that does not exist or has an invalid
            value.
    """
    owner = str(path)
    content = read_mapping(path, "--config", wanted="a YAML file", example="model: vae")
    content = resolve(_fields, content, owner=owner)
    model = resolve(_model_fields, _section(content["model"], "name"), owner=f"{owner}: model")
    data = resolve(_data_fields, _section(content["data"], "name"), owner=f"{owner}: data")
    training = resolve(_training_fields, content["training"] or {}, owner=f"{owner}: training")
    return Recipe(
        model=model["name"],
        preset=model["preset"],
        settings=model["settings"],
        data=data["source"] or data["name"],
        data_options=data["options"],
        fingerprint=data["fingerprint"],
        budget=None if content["budget"] is None else str(content["budget"]),
        seed=content["seed"],
        precision=training["precision"],
        compiled=training["compiled"],
        accumulate=training["accumulate"],
    )


# The signatures below are the file's schema, checked like every other configuration of the package.


def _fields(
    *,
    format: int = 1,  # written by runs; a field that a later format added may be missing
    model: str | dict[str, Any] | None = None,
    data: str | dict[str, Any] | None = None,
    budget: str | float | None = None,
    seed: Seed | None = None,
    training: dict[str, Any] | None = None,
) -> None: ...


def _model_fields(
    *, name: str | None = None, preset: Preset | None = None, settings: dict[str, Any] | None = None
) -> None: ...


def _data_fields(
    *,
    name: str | None = None,
    source: str | None = None,
    options: dict[str, Any] | None = None,
    fingerprint: str | None = None,
    spec: dict[str, Any] | None = None,
) -> None: ...


def _training_fields(
    *,
    precision: Precision | None = None,
    compiled: bool | None = None,
    accumulate: Annotated[int, Ge(1)] | None = None,
) -> None: ...


def _section(content: Any, short: str) -> dict[str, Any]:
    """A section, or the one field that it may be shortened to."""
    if isinstance(content, str):
        return {short: content}
    return {str(key): value for key, value in (content or {}).items()}
