"""`bestiary sample`."""

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bestiary.cli.counting import Counting
from bestiary.cli.options import Device, Json, RunFolder, Seed, names, whole_number
from bestiary.cli.output import print_json, say
from bestiary.errors import OptionError, RunError

if TYPE_CHECKING:
    from torch import Tensor

    from bestiary.data.specs import Spec
    from bestiary.models.base import Sampler
    from bestiary.runs.folder import Run


def sample(
    run: RunFolder,
    n: Annotated[int, typer.Option("-n", parser=whole_number(1), metavar="N", help="How many.")] = 64,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .png grid, a .txt of sequences or an .npz, by default RUN-samples.png or .txt here.",
        ),
    ] = None,
    classes: Annotated[
        Any,
        typer.Option(
            parser=names,
            metavar="K,K,…",
            help="The classes to draw in turn, for a conditional model.",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="Of autoregressive models: below 1, likely values become likelier; by default 1.",
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of order-agnostic: raster, spiral, hilbert, …, by default its own."
        ),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Draw samples from a run into a file, whose path is printed.

    An .npz holds `samples`: uint8 images of shape (n, C, H, W), float points of shape (n, dim), or int64
    sequences of shape (n, length); and `labels` or `conditions` where the model is conditional. Vectors to
    draw for are those of the run's own test split, in turn.
    """
    import torch

    from bestiary.models.base import Encoder, Sampler
    from bestiary.runs import load
    from bestiary.runs.folder import open_run
    from bestiary.runs.pictures import picture_suffix
    from bestiary.training.files import told_in_one_line

    opened = open_run(run)
    kinds = (picture_suffix(opened.config.spec), ".npz")
    target = Path(f"{Path(run).resolve().name}-samples{kinds[0]}") if out is None else out
    if target.suffix.lower() not in kinds:
        raise OptionError(f"--out: found {str(target)!r}, wanted a file that ends in {' or '.join(kinds)}")
    model = load(run, device=device)
    if not isinstance(model, Sampler):
        remedy = (
            ": fit a density to its codes by bestiary.tasks.fit_prior" if isinstance(model, Encoder) else ""
        )
        raise RunError(f"RUN: {run} is a {type(model).__name__}, which draws no samples{remedy}")
    how = _how(model, temperature=temperature, order=order)
    condition = _condition(opened, classes, n)
    with told_in_one_line("--out"):
        target.parent.mkdir(parents=True, exist_ok=True)
    say(f"drawing {n:,} samples")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad(), Counting() as counting:
        if "progress" in signature(model.sample).parameters:
            how["progress"] = lambda share: counting("drawing, per cent", round(100 * share), 100)
        there = None if condition is None else condition.to(model.device)
        x = model.sample(n, condition=there, generator=generator, **how).cpu()
    with told_in_one_line("--out"):
        _write(target, x, condition, model.spec)
    if as_json:
        print_json({"out": str(target), "run": run, "n": n, "seed": seed, "shape": x.shape})
    else:
        print(target)


def _how(model: "Sampler", **asked: Any) -> dict[str, Any]:
    """Options of a model's `sample` that were asked for.

    Raises:
        OptionError: one that the model does not have.
    """
    known = signature(model.sample).parameters
    found = {name: value for name, value in asked.items() if value is not None}
    for name, value in found.items():
        if name not in known:
            raise OptionError(
                f"--{name}: found {value}, but {type(model).__name__} has no {name}: leave it out"
            )
    return found


def _condition(run: "Run", wanted: list[str] | None, n: int) -> "Tensor | None":
    import torch

    from bestiary.data.specs import Classes
    from bestiary.runs.folder import check_same_data
    from bestiary.runs.observers import shown_condition

    kind = run.config.spec.condition
    if wanted is not None and not isinstance(kind, Classes):
        raise OptionError("--classes: the model of this run is not conditional on classes: leave it out")
    if kind is None:
        return None
    if not isinstance(kind, Classes):
        check_same_data(run.config.spec, run.data, f"RUN: {run.folder}")
        return shown_condition(run.config.spec, run.data.test, n)
    last = kind.n - 1
    for text in wanted or ():
        if not text.isdecimal() or int(text) > last:
            raise OptionError(f"--classes: found {text!r}, wanted whole numbers from 0 to {last}")
    chosen = torch.tensor([int(text) for text in wanted] if wanted else range(last + 1))
    return chosen[torch.arange(n) % len(chosen)]


def _write(target: Path, x: "Tensor", condition: "Tensor | None", spec: "Spec") -> None:
    import numpy as np

    from bestiary.data.specs import ImageSpec
    from bestiary.runs.pictures import picture_suffix, save_picture

    if target.suffix.lower() == picture_suffix(spec):
        save_picture(x, spec, target)
        return
    levels = (x.clamp(0, 1) * 255).round().byte() if isinstance(spec, ImageSpec) else x
    arrays = {"samples": levels.numpy()}
    if condition is not None:
        arrays["conditions" if condition.is_floating_point() else "labels"] = condition.numpy()
    with target.open("wb") as file:  # numpy would add .npz to a name that ends otherwise, as in .NPZ
        np.savez_compressed(file, allow_pickle=False, **arrays)
