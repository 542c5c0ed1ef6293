"""`bestiary interpolate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bestiary.cli.options import Json, RunFolder, Seed, Split, one_of, whole_number
from bestiary.cli.output import print_json
from bestiary.errors import OptionError, RunError

if TYPE_CHECKING:
    from torch import Tensor

_PATHS = ("linear", "spherical")


def interpolate(
    run: RunFolder,
    n: Annotated[
        int, typer.Option("-n", parser=whole_number(1), metavar="N", help="Pairs of images, at most.")
    ] = 8,
    steps: Annotated[
        int, typer.Option(parser=whole_number(2), metavar="K", help="Codes of each pair, with both ends.")
    ] = 9,
    path: Annotated[
        Any,
        typer.Option(
            parser=one_of(*_PATHS),
            metavar="|".join(_PATHS),
            help="Straight from code to code, or around the origin; by default the way that stays where the"
            " model's codes are.",
            autocompletion=lambda incomplete: [p for p in _PATHS if p.startswith(incomplete)],
        ),
    ] = None,
    split: Split = "test",
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A .png grid or an .npz, by default RUN-interpolated.png or .npz here."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Decode the codes between those of real examples, into a file whose path is printed.

    A row is an example, what is decoded between its code and another's, both ends among it, and the other
    example. Where classes are a condition, both are of the same. An .npz holds `a` and `b`, shape (n, …), and
    `interpolations`, shape (n, K, …): uint8 images or float points.
    """
    import torch

    from bestiary.data.specs import ImageSpec
    from bestiary.models.base import Encoder
    from bestiary.runs import load, open_run
    from bestiary.runs.folder import check_same_data
    from bestiary.tasks import example_pairs, interpolation_picture, natural_path
    from bestiary.tasks import interpolate as between
    from bestiary.training.files import told_in_one_line

    opened = open_run(run)
    kinds = (".png", ".npz") if isinstance(opened.config.spec, ImageSpec) else (".npz",)
    target = Path(f"{Path(run).resolve().name}-interpolated{kinds[0]}") if out is None else out
    if target.suffix.lower() not in kinds:
        raise OptionError(f"--out: found {str(target)!r}, wanted a file that ends in {' or '.join(kinds)}")
    model = load(run)
    if not isinstance(model, Encoder):
        raise RunError(
            f"RUN: {run} is a {type(model).__name__}, which has no codes of examples: wanted a run of a model"
            " that encodes, such as vae or autoencoder"
        )
    data = opened.data
    check_same_data(model.spec, data, f"RUN: {run}")
    examples = data.test if split == "test" else data.validation
    generator = torch.Generator().manual_seed(seed)
    a, b = example_pairs(examples, model.spec, n, generator=generator)
    chosen = natural_path(model) if path is None else path
    condition = None if a.condition is None or b.condition is None else (a.condition, b.condition)
    images = between(model, a.x, b.x, steps=steps, path=chosen, condition=condition)
    with told_in_one_line("--out"):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix.lower() == ".png":
            interpolation_picture(a.x, b.x, images).save(target)
        else:
            _write(target, a.x, b.x, images)
    if as_json:
        print_json(
            {
                "out": str(target),
                "run": run,
                "split": split,
                "n": len(a),
                "steps": steps,
                "path": chosen,
                "seed": seed,
            }
        )
    else:
        print(target)


def _write(target: Path, a: "Tensor", b: "Tensor", between: "Tensor") -> None:
    import numpy as np

    arrays = [a, b, between]
    if a.ndim == 4:
        arrays = [(x.clamp(0, 1) * 255).round().byte() for x in arrays]
    first, last, rows = (x.numpy() for x in arrays)
    np.savez_compressed(target, a=first, b=last, interpolations=rows)
