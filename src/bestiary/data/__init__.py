"""Data: what one example is, where examples come from, and in which order they are drawn.

Nothing is imported before it is used, so that the table of data sets prints without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bestiary.data.load import load_data
    from bestiary.data.order import BatchOrder
    from bestiary.data.points import grid_centres, ring_centres
    from bestiary.data.specs import Classes, ImageSpec, PairSpec, PointSpec, SequenceSpec, Spec, Vector
    from bestiary.data.splits import ArraySplit, Batch, Data, EndlessSplit, Split

_HOMES = {
    "load": ("load_data",),
    "order": ("BatchOrder",),
    "points": ("grid_centres", "ring_centres"),
    "specs": ("Classes", "ImageSpec", "PairSpec", "PointSpec", "SequenceSpec", "Spec", "Vector"),
    "splits": ("ArraySplit", "Batch", "Data", "EndlessSplit", "Split"),
}

__all__ = [
    "ArraySplit",
    "Batch",
    "BatchOrder",
    "Classes",
    "Data",
    "EndlessSplit",
    "ImageSpec",
    "PairSpec",
    "PointSpec",
    "SequenceSpec",
    "Spec",
    "Split",
    "Vector",
    "grid_centres",
    "load_data",
    "ring_centres",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
