"""Reading a study: a YAML file, a preset of the package by its name, or a mapping of the same fields.

`base: NAME` starts from a preset; the file's own fields go over it. Of a base's arms the file may list the
names that it wants, the base's `variants` among them, and give each arm more fields.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from bestiary.errors import OptionError, unknown_name
from bestiary.study.plan.design import Study
from bestiary.study.plan.schema import make_study
from bestiary.yaml_file import read_mapping

_PRESETS = files("bestiary.study.plan") / "presets"


def presets() -> list[str]:
    """Names of the studies that the package has."""
    return sorted(
        path.name.removesuffix(".yaml") for path in _PRESETS.iterdir() if path.name.endswith(".yaml")
    )


def read_study(study: str | Path | Mapping[str, Any]) -> Study:
    """A study from a file, a preset's name or a mapping.

    Raises:
        OptionError: no such file or preset, no YAML, or a field that does not exist or is not valid.
    """
    if isinstance(study, Mapping):
        content, owner, name = study, "study", "study"
    elif str(study) in presets():
        content, owner, name = {"base": str(study)}, str(study), str(study)
    else:
        content, owner, name = _read(Path(study)), str(study), Path(study).stem
    for field in ("common", "space", "variants"):
        if not isinstance(content.get(field), Mapping | None):
            raise OptionError(f"{field}: found {content[field]!r}, wanted options and their values")
    base = _base(content, owner)
    known = {*(base.get("common") or {}), *(base.get("space") or {})}
    return make_study(_over(base, content), owner=owner, name=name, known=known)


def _read(path: Path) -> dict[str, Any]:
    wanted = f"a YAML file or one of the presets {', '.join(presets())}"
    return read_mapping(path, "STUDY", wanted=wanted, example="budget: 2 epochs")


def _base(content: Mapping[str, Any], owner: str) -> dict[str, Any]:
    name = content.get("base")
    if name is None:
        return {}
    if name not in presets():
        raise unknown_name(f"base of {owner}", str(name), presets())
    base: dict[str, Any] = yaml.safe_load((_PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))
    return base


def _over(base: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """The content's fields over those of the base; options are merged one by one, and so are arms."""
    both = {**base, **{key: value for key, value in content.items() if key != "base"}}
    if not base:
        return both
    arms, variants = base["arms"], both.pop("variants", {})
    wanted = both["arms"]
    if isinstance(wanted, list | tuple) and all(isinstance(arm, str) for arm in wanted):
        wanted = dict.fromkeys(wanted)
    if not isinstance(wanted, Mapping) or not all(isinstance(arm, str) for arm in wanted):
        raise OptionError(f"arms: found {wanted!r}, wanted names of models, or a name and its fields each")
    known = {**arms, **variants}
    both["arms"] = {arm: _merged(known.get(arm), wanted[arm]) for arm in wanted}
    return {**both, **_options_of(base, content, ("common", "space"))}


def _merged(base: Any, own: Any) -> Any:
    if not isinstance(base, Mapping) or not isinstance(own, Mapping | None):
        return own
    for field in ("settings", "space"):
        if not isinstance((own or {}).get(field), Mapping | None):
            return own  # the schema will say so
    own = own or {}
    return {**base, **own, **_options_of(base, own, ("settings", "space"))}


def _options_of(base: Mapping[str, Any], own: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    return {f: {**(base.get(f) or {}), **(own.get(f) or {})} for f in fields if f in base or f in own}
