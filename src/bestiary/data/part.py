"""A part of a data set: the examples of some of its classes."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bestiary.data.specs import Classes
from bestiary.data.splits import Batch, Data, Split
from bestiary.errors import DataError, OptionError, unknown_name

Only = int | str | Sequence[int | str] | None


class Part(Split):
    """Some examples of another split, in its order.

    Arguments:
        split: with labels.
        classes: labels of the examples that are taken, ascending; they are numbered anew from 0.

    Raises:
        DataError: a split without labels.
    """

    def __init__(self, split: Split, classes: Sequence[int]) -> None:
        if split.labels is None:
            raise DataError("split: found one without labels, wanted labels to choose examples by")
        wanted = torch.tensor(classes)
        self._split, self._rows = split, torch.isin(split.labels, wanted).nonzero().squeeze(1)
        self.labels: Tensor = torch.searchsorted(wanted, split.labels[self._rows])

    @property
    def endless(self) -> bool:
        """False: what has labels has a length."""
        return False

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, indices: Tensor, *, generator: torch.Generator | None = None) -> Batch:
        """See `Split.take`."""
        batch = self._split.take(self._rows[indices], generator=generator)
        return Batch(batch.x, None if batch.condition is None else self.labels[indices])


def restricted(data: Data, only: Only) -> Data:
    """The same data with the examples of some classes alone, in all three splits.

    Labels are numbered anew from 0, in the order of the data's own; a single class has no names of classes.

    Arguments:
        data: with labels.
        only: a class or several, by name, or by number from 0 where no class has that name; None for the
            whole of the data.

    Raises:
        OptionError: no class, or one that the data do not have.
        DataError: data without classes, or a split without an example of these.
    """
    if only is None:
        return data
    if data.classes is None:
        raise DataError(f"only: found {only!r}, but {data.name} has no classes: leave it out")
    chosen = class_numbers(only, data.classes)
    names = tuple(data.classes[k] for k in chosen)
    train, validation, test = (Part(split, chosen) for split in (data.train, data.validation, data.test))
    for name, part in (("train", train), ("validation", validation), ("test", test)):
        if not len(part):
            raise DataError(f"only: {data.name} has no example of {', '.join(names)} for its {name} split")
    given = Classes(len(names)) if isinstance(data.spec.condition, Classes) else data.spec.condition
    return replace(
        data,
        name=f"{data.name}[{', '.join(names)}]",
        spec=replace(data.spec, condition=given),
        classes=names if len(names) > 1 else None,
        train=train,
        validation=validation,
        test=test,
    )


def class_numbers(only: int | str | Sequence[int | str], classes: Sequence[str]) -> list[int]:
    """The numbers of a class or several, ascending and each once.

    Raises:
        OptionError: no class, or one that is not among `classes`.
    """
    wanted = [only] if isinstance(only, int | str) else only
    if not wanted:
        raise OptionError(f"only: found no class, wanted at least one of {', '.join(classes)}")
    return sorted({_number(name, classes) for name in wanted})


def _number(name: int | str, classes: Sequence[str]) -> int:
    if str(name) in classes:
        return classes.index(str(name))
    if isinstance(name, bool):
        said = "yes, on or true" if name else "no, off or false"
        raise OptionError(
            f'only: found {said}, which YAML takes for a truth value, wanted it in quotes: "no"'
        )
    if isinstance(name, int) and 0 <= name < len(classes):
        return name
    raise unknown_name("class", str(name), classes, f"(or a number from 0 to {len(classes) - 1})")
