"""Data: what one example is, where examples come from, and in which order they are drawn.

Nothing is imported before it is used, so that the table of data sets prints without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bestiary.data.factors import Factors
    from bestiary.data.load import load_data
    from bestiary.data.order import BatchOrder
    from bestiary.data.points import grid_centres, mixture_1200d_centres, ring_centres
    from bestiary.data.specs import Classes, ImageSpec, PairSpec, PointSpec, SequenceSpec, Spec, Vector
    from bestiary.data.splits import ArraySplit, Batch, Data, EndlessSplit, Split
    from bestiary.data.stacked import StackedSplit, singles_of

_HOMES = {
    "factors": ("Factors",),
    "load": ("load_data",),
    "order": ("BatchOrder",),
    "points": ("grid_centres", "mixture_1200d_centres", "ring_centres"),
    "specs": ("Classes", "ImageSpec", "PairSpec", "PointSpec", "SequenceSpec", "Spec", "Vector"),
    "splits": ("ArraySplit", "Batch", "Data", "EndlessSplit", "Split"),
    "stacked": ("StackedSplit", "singles_of"),
}

__all__ = [
    "ArraySplit",
    "Batch",
    "BatchOrder",
    "Classes",
    "Data",
    "EndlessSplit",
    "Factors",
    "ImageSpec",
    "PairSpec",
    "PointSpec",
    "SequenceSpec",
    "Spec",
    "Split",
    "StackedSplit",
    "Vector",
    "grid_centres",
    "load_data",
    "mixture_1200d_centres",
    "ring_centres",
    "singles_of",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
