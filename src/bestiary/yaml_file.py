"""Reading what people write by hand: YAML of names and values, a name in it twice being a mistake."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from bestiary.errors import OptionError


class _NamesOnce(yaml.SafeLoader):
    """Plain data alone; PyYAML itself lets the last of several equal names win, without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            name = key_node.value
            if key_node.tag != "tag:yaml.org,2002:merge" and isinstance(name, str):
                if name in seen:
                    twice = f"found {name!r} twice"
                    raise yaml.constructor.ConstructorError(None, None, twice, key_node.start_mark)
                seen.add(name)
        return super().construct_mapping(node, deep=deep)


def read_mapping(path: Path, argument: str, *, wanted: str, example: str) -> dict[str, Any]:
    """The fields of a YAML file.

    Arguments:
        path: of the file.
        argument: that named it, for messages.
        wanted: what it should be, in words.
        example: of its fields, for the message where there are none.

    Raises:
        OptionError: a file that cannot be read, is no YAML, has a name twice, or has no fields.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_NamesOnce)
    except OSError as error:
        raise OptionError(
            f"{argument}: cannot read {str(path)!r} ({error.strerror}), wanted {wanted}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"{argument}: {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise OptionError(f"{argument}: found {content!r} in {path}, wanted fields, as in {example!r}")
    return {str(key): value for key, value in content.items()}
