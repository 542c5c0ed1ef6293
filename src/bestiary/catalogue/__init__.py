"""Every model of the package, in one hand-written table; nothing here imports torch."""

from typing import TYPE_CHECKING, Any

from bestiary.catalogue import adversarial, autoregressive, baseline, latent
from bestiary.catalogue.adversarial import VARIANTS
from bestiary.catalogue.entry import CatalogueEntry, Family, Preset
from bestiary.errors import OptionError, unknown_name

if TYPE_CHECKING:
    from bestiary.data.specs import Spec
    from bestiary.models.base import Model

__all__ = ["ALIASES", "CATALOGUE", "CatalogueEntry", "Family", "Preset", "create", "entry", "name_of"]

_ENTRIES = (*baseline.ENTRIES, *autoregressive.ENTRIES, *latent.ENTRIES, *adversarial.ENTRIES)

CATALOGUE: dict[str, CatalogueEntry] = {entry.name: entry for entry in _ENTRIES}
ALIASES: dict[str, str] = {alias: entry.name for entry in _ENTRIES for alias in entry.aliases}


def entry(name: str) -> CatalogueEntry:
    """The entry of a name or alias.

    Raises:
        OptionError: no such model; the message names the nearest.
    """
    if not isinstance(name, str):
        raise OptionError(f"model: found {name!r}, wanted a name (`bestiary models` lists them)")
    key = name.lower().replace("_", "-")
    if key in VARIANTS:
        return VARIANTS[key]
    key = ALIASES.get(key, key)
    if key not in CATALOGUE:
        raise unknown_name("model", name, [*CATALOGUE, *ALIASES], "(`bestiary models` lists them)")
    return CATALOGUE[key]


def name_of(model: "Model") -> str | None:
    """The catalogue's name for a model: of the entries of its class the one whose identity it has most of."""
    path = f"{type(model).__module__}:{type(model).__qualname__}"
    candidates = [candidate for candidate in _ENTRIES if candidate.path == path]

    def differences(candidate: CatalogueEntry) -> int:
        return sum(model.settings.get(key) != value for key, value in candidate.identity.items())

    return min(candidates, key=differences).name if candidates else None


def create(name: str, *, spec: "Spec", seed: int = 0, preset: Preset = "paper", **settings: Any) -> "Model":
    """Build a model of the catalogue, with weights drawn from `seed`.

    Arguments:
        name: of the catalogue, or an alias.
        spec: of the data the model is for (`data.spec`).
        seed: of the initial weights; the global random state is left alone.
        preset: "paper" for the paper's settings, "laptop" for reduced ones.
        settings: the constructor's keyword arguments, over the preset's.

    Raises:
        OptionError: an unknown model, setting or preset, or a value that is not valid.
        DataError: the model cannot be made for such data.
    """
    from bestiary.config import resolve
    from bestiary.randomness import forked_randomness

    found = entry(name)
    kind = found.load()
    resolved = resolve(kind, {**found.settings(preset), **settings}, owner=found.name)
    with forked_randomness(seed):
        model = kind(spec, **resolved)
    return model.eval()
