"""bestiary: every classic family of deep generative model, trained, judged and compared fairly.

    import bestiary

    data = bestiary.load_data("fashion-mnist")
    model = bestiary.create("ns-gan", spec=data.spec, preset="laptop")
    run = bestiary.train(model, data, budget="2 epochs", out="runs/ns-gan")
    bestiary.evaluate("runs/ns-gan", data, metrics=["frechet"], n=2000)

Importing the package imports no torch: names are looked up when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bestiary import metrics, tasks, testing
    from bestiary.catalogue import create
    from bestiary.data import load_data
    from bestiary.errors import BestiaryError
    from bestiary.runs import evaluate, load, train
    from bestiary.study import compare, run_study

__version__ = "0.1.0"

_HOMES = {
    "BestiaryError": "bestiary.errors",
    "compare": "bestiary.study",
    "create": "bestiary.catalogue",
    "evaluate": "bestiary.runs",
    "load": "bestiary.runs",
    "load_data": "bestiary.data",
    "run_study": "bestiary.study",
    "train": "bestiary.runs",
}
_MODULES = (
    "catalogue", "config", "data", "distributions", "errors", "metrics", "models", "networks", "objectives",
    "report", "runs", "study", "tasks", "testing", "training",
)  # fmt: skip

__all__ = [
    "BestiaryError", "compare", "create", "evaluate", "load", "load_data", "metrics", "run_study", "tasks",
    "testing", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"bestiary.{name}")
    raise AttributeError(f"module 'bestiary' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_MODULES])
