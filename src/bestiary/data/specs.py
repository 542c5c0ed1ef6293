"""What one example is: the only thing a model needs to know about the data it is made for."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bestiary.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Classes:
    """The condition is one of `n` class labels: an int64 tensor of shape (B,)."""

    n: int


@dataclass(frozen=True)
class Vector:
    """The condition is a vector of `d` numbers: a float tensor of shape (B, d)."""

    d: int


Condition = Classes | Vector | None


@dataclass(frozen=True)
class ImageSpec:
    """An image: float tensors in [0, 1] of shape (B, channels, height, width).

    `levels` is L: the data are the L grey levels k/(L−1), k = 0 … L−1; 2 means binary.
    """

    channels: int
    height: int
    width: int
    levels: int = 256
    condition: Condition = None

    def __post_init__(self) -> None:
        for name, least in (("channels", 1), ("height", 1), ("width", 1), ("levels", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise OptionError(f"{name}: found {value!r}, wanted a whole number ≥ {least}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return (self.channels, self.height, self.width)

    @property
    def dimensions(self) -> int:
        """D = C·H·W, the number that nats are divided by to give bits/dim."""
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class PointSpec:
    """A point of R^dim: float tensors of shape (B, dim)."""

    dim: int
    condition: Condition = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(dim,)."""
        return (self.dim,)

    @property
    def dimensions(self) -> int:
        """D = dim."""
        return self.dim


@dataclass(frozen=True)
class SequenceSpec:
    """A sequence of symbols: int64 tensors of shape (B, length), values 0 … vocabulary−1.

    `symbols` are the characters of the values 0 … vocabulary−1, for people to read; "" where they have none.

    Raises:
        OptionError: another number of characters than of values.
    """

    length: int
    vocabulary: int
    condition: Condition = None
    symbols: str = ""

    def __post_init__(self) -> None:
        if self.symbols and len(self.symbols) != self.vocabulary:
            raise OptionError(
                f"symbols: found {len(self.symbols)}, wanted one for each of the {self.vocabulary} values"
            )

    def texts(self, x: "Tensor") -> list[str]:
        """Sequences (B, length) as lines of text: up to the first newline, which is how they end.

        Without characters the values are written with spaces between them.
        """
        if not self.symbols:
            return [" ".join(map(str, row)) for row in x.tolist()]
        return ["".join(self.symbols[k] for k in row).partition("\n")[0] for row in x.tolist()]

    @property
    def shape(self) -> tuple[int, ...]:
        """(length,)."""
        return (self.length,)

    @property
    def dimensions(self) -> int:
        """D = length."""
        return self.length


@dataclass(frozen=True)
class PairSpec:
    """Two unpaired domains, A and B, for translation."""

    a: ImageSpec
    b: ImageSpec
    condition: Condition = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of domain A, the one that is translated from."""
        return self.a.shape

    @property
    def dimensions(self) -> int:
        """D of domain A."""
        return self.a.dimensions


Spec = ImageSpec | PointSpec | SequenceSpec | PairSpec

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (ImageSpec, PointSpec, SequenceSpec, PairSpec, Classes, Vector)
}


def spec_to_dict(spec: Spec | Classes | Vector) -> dict[str, Any]:
    """A spec as plain data for a config file; `spec_from_dict` is its inverse."""
    fields = {
        name: spec_to_dict(value) if type(value).__name__ in _KINDS else value
        for name, value in ((f, getattr(spec, f)) for f in asdict(spec))
    }
    return {"kind": type(spec).__name__, **fields}


def spec_from_dict(plain: dict[str, Any]) -> Any:
    """The spec that `spec_to_dict` wrote.

    Raises:
        OptionError: plain data that describes no spec.
    """
    fields = dict(plain)
    kind = _KINDS.get(fields.pop("kind", ""))
    if kind is None:
        raise OptionError(f"spec: found kind {plain.get('kind')!r}, wanted one of {', '.join(_KINDS)}")
    for name, value in fields.items():
        if isinstance(value, dict):
            fields[name] = spec_from_dict(value)
    try:
        return kind(**fields)
    except TypeError as error:
        raise OptionError(f"spec: {error}") from error
