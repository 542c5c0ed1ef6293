"""A constructor's signature is the schema.

The keyword arguments of a model (or of a data loader) are its whole configuration: config files, the
command line, search spaces and forms are all derived from that one signature. Two kinds of annotation
are read, never mixed up: `Ge`/`Gt`/`Le`/`Lt` say which values are valid, `Search` says from where a
hyper-parameter search draws.

    learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-4
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import TypeAdapter

from bestiary.errors import OptionError, unknown_name

__all__ = [
    "Ge", "Gt", "Le", "Lt", "Option", "Search", "Seed", "check_count", "check_seed", "finite", "options",
    "parse_assignments", "plain", "resolve",
]  # fmt: skip


LARGEST_SEED = 2**63 - 1  # that torch and numpy take
Seed = Annotated[int, Ge(0), Le(LARGEST_SEED)]


def check_seed(seed: int) -> int:
    """The seed, if torch and numpy take it.

    Raises:
        OptionError: no whole number, a negative one or one above 2⁶³ − 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise OptionError(f"seed: found {seed!r}, wanted a whole number from 0 to 2**63 - 1")
    return seed


def check_count(name: str, n: int, *, least: int = 0) -> None:
    """Raise an `OptionError` unless so many can be drawn."""
    if not isinstance(n, Integral) or isinstance(n, bool) or n < least:
        raise OptionError(f"{name}: found {n!r}, wanted a whole number ≥ {least}")


@dataclass(frozen=True)
class Search:
    """The range a search draws from: uniform, or log-uniform with `log=True`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Option:
    """One keyword argument of a constructor: its name, type, default, and what is valid or searched."""

    name: str
    annotation: Any
    default: Any
    search: Search | None

    @property
    def required(self) -> bool:
        """Whether the constructor has no default for it."""
        return self.default is inspect.Parameter.empty

    def describe(self) -> str:
        """What a valid value is, in words: "a number > 0", "one of a, b"."""
        return _describe(self.annotation)


def options(target: Callable[..., Any]) -> dict[str, Option]:
    """The keyword-only options of a class or function, in the order of its signature.

    A constructor that passes `**settings` on has, after its own, the options of the class above it.
    """
    found: dict[str, Option] = {}
    for depth, function in enumerate(_constructors(target) if inspect.isclass(target) else [target]):
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
        for name, parameter in parameters.items():
            if depth and parameter.default is inspect.Parameter.empty:
                continue  # the class below gives it a value itself
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in found:
                annotation = hints.get(name, Any)
                metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
                search = next((m for m in metadata if isinstance(m, Search)), None)
                found[name] = Option(name, annotation, parameter.default, search)
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            break
    return found


def _constructors(kind: type) -> list[Callable[..., Any]]:
    """The constructors of a class and the classes above it, the class's own first."""
    return [vars(c)["__init__"] for c in kind.__mro__ if "__init__" in vars(c)]


def resolve(
    target: Callable[..., Any], settings: Mapping[str, Any], *, owner: str, strict: bool = False
) -> dict[str, Any]:
    """Check `settings` against the signature of `target` and fill in its defaults.

    Arguments:
        target: the class or function whose keyword-only arguments are the schema.
        settings: names and values; text is converted where it reads as the wanted type.
        owner: who is being configured, for the message ("wgan-gp", "folder").
        strict: refuse text where a number belongs, as for values that come from Python code.

    Raises:
        OptionError: a name that does not exist, or a value that is not valid.
    """
    schema = options(target)
    for name in settings:
        if name not in schema:
            is_model = inspect.isclass(target) and ":" not in owner  # no name of a model: "arms: mine"
            hint = f"(`bestiary models {owner}` lists the options)" if is_model else ""
            raise unknown_name(f"option of {owner}", name, schema, hint)
    resolved = {}
    for name, option in schema.items():
        if name in settings:
            resolved[name] = _validate(option, settings[name], owner, strict)
        elif option.required:
            raise OptionError(f"{name}: {owner} needs a value for it, wanted {option.describe()}")
        else:
            resolved[name] = option.default
    return resolved


def parse_assignments(assignments: Sequence[str], argument: str = "--set") -> dict[str, Any]:
    """Read `key=value` pairs as typed on the command line; values are YAML scalars or lists.

    Raises:
        OptionError: a pair without `=`, without a name, or with a value that is not YAML.
    """
    parsed: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise OptionError(
                f"{argument}: found {text!r}, wanted key=value, as in {argument} learning_rate=1e-4"
            )
        if not value.strip():
            raise OptionError(
                f"{argument} {name.strip()}: found nothing after '=', wanted a value, null for none"
            )
        try:
            # a number that begins with a zero is a name of something, a class perhaps, and octal to YAML
            written = value.strip()
            zeros = re.fullmatch(r"0\d+", written)
            parsed[name.strip()] = written if zeros else yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise OptionError(f"{argument} {name.strip()}: cannot read the value {value!r}") from error
    return parsed


def plain(value: Any) -> Any:
    """Settings as YAML and JSON hold them: tuples become lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def finite(value: Any) -> Any:
    """A value as JSON can hold it: numbers that are not finite become None, at any depth."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _validate(option: Option, value: Any, owner: str, strict: bool) -> Any:
    try:
        valid = TypeAdapter(option.annotation).validate_python(value, strict=strict)
        # true is no number, though Python takes it for 1, and infinity is none that an option could mean
        if (isinstance(value, bool) and not isinstance(valid, bool)) or valid in (math.inf, -math.inf):
            raise ValueError(value)
        return valid
    except ValueError:  # pydantic's is one
        message = f"{option.name}: found {value!r}, wanted {option.describe()}"
        choices = _choices(option.annotation)
        if choices and isinstance(value, str):
            message = str(unknown_name(f"{option.name} of {owner}", value, choices))
        if not option.required:
            message += f" (default {option.default!r})"
        raise OptionError(message) from None


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Annotated:
        return _choices(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [choice for a in get_args(annotation) for choice in _choices(a)]
    return [str(c) for c in get_args(annotation)] if get_origin(annotation) is Literal else []


_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "none"}


def _describe(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [_bound(m) for m in arguments[1:]]
        return " ".join([_describe(arguments[0]), " and ".join(b for b in bounds if b)]).strip()
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is Union or origin is UnionType:
        choices = _choices(annotation)
        rest = [_describe(a) for a in arguments if get_origin(a) is not Literal]
        return " or ".join([*(["one of " + ", ".join(choices)] if choices else []), *rest])
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        return "a list of " + _describe(arguments[0]).removeprefix("a ").replace("number", "numbers")
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bound(metadata: Any) -> str:
    for kind, attribute, sign in ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"), (Lt, "lt", "<")):
        if isinstance(metadata, kind):
            return f"{sign} {getattr(metadata, attribute)}"
    return ""
