"""From an exception to the one line that the person at the keyboard can act on."""

from collections.abc import Iterable
from typing import Any

import typer

from bestiary.errors import BestiaryError, is_out_of_memory, nearest


def line_of(error: Exception) -> str | None:
    """What to tell the person, in one line; None where the mistake is not theirs but the package's."""
    if isinstance(error, BestiaryError):
        return _one_line(str(error))
    if isinstance(error, typer.TyperException):
        return _one_line(_usage(error))
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return _one_line(f"{where}{error.strerror or error}")
    if is_out_of_memory(error):
        return "memory: found too little for this, wanted fewer or smaller examples, or a smaller model"
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _usage(error: typer.TyperException) -> str:
    """A command line that cannot be read; typer's own kinds of this error are not public."""
    kind, details = type(error).__name__, vars(error)
    context = details.get("ctx")
    help_hint = f"(`{context.command_path} --help`)" if context else ""
    if kind == "NoSuchOption":
        typed = details["option_name"]
        close = nearest(typed, _options(context))
        wanted = f"did you mean {close!r}?" if close else f"wanted one of {', '.join(_options(context))}"
        return f"unknown option {typed!r}: {wanted} {help_hint}"
    if kind == "BadParameter" and details.get("param"):
        name = _name(details["param"])
        return f"{name}: {error.message.removeprefix('Value error, ')} {help_hint}"
    if kind == "NoArgsIsHelpError":
        path = context.command_path if context else ""
        return f"{path}: found no command, wanted one of {_commands(context)} {help_hint}"
    if kind == "UsageError" and error.message.startswith("No such command"):
        typed = error.message.split("'")[1]
        close = nearest(typed, context.command.commands) if context else None
        wanted = f"did you mean {close!r}?" if close else f"wanted one of {_commands(context)}"
        return f"unknown command {typed!r}: {wanted} {help_hint}"
    if kind == "MissingParameter" and details.get("param"):
        return f"{_name(details['param'])}: found nothing, wanted a value for it {help_hint}"
    text = error.format_message().rstrip(".")
    return f"{text[:1].lower()}{text[1:]} {help_hint}"


def _commands(context: Any) -> str:
    return ", ".join(context.command.commands) if context else ""


def _options(context: Any) -> list[str]:
    parameters: Iterable[Any] = context.command.get_params(context) if context else ()
    return [name for p in parameters if p.param_type_name == "option" for name in p.opts]


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name)
