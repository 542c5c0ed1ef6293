"""`bestiary interpolate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bestiary.cli.options import Device, Json, RunFolder, Seed, Split, one_of, whole_number
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
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Decode the codes between those of real examples, into a file whose path is printed.

    A row is an example, what is decoded between its code and another's, both ends among it, and the other
    example. Where classes are a condition, both are of the same. A model without an encoder, such as ns-gan,
    has codes drawn from its prior at both ends. An .npz holds `a` and `b`, shape (n, …), the ends, and
    `interpolations`, shape (n, K, …): uint8 images or float points.
    """
    import torch

    from bestiary.data.specs import ImageSpec
    from bestiary.models.adversarial.base import AdversarialModel
    from bestiary.models.base import Encoder
    from bestiary.runs import load, open_run
    from bestiary.runs.folder import check_same_data
    from bestiary.runs.observers import shown_condition
    from bestiary.runs.pictures import image_grid
    from bestiary.tasks import example_pairs, interpolate_codes, interpolation_picture, natural_path
    from bestiary.tasks import interpolate as between
    from bestiary.training.files import told_in_one_line

    opened = open_run(run)
    kinds = (".png", ".npz") if isinstance(opened.config.spec, ImageSpec) else (".npz",)
    target = Path(f"{Path(run).resolve().name}-interpolated{kinds[0]}") if out is None else out
    if target.suffix.lower() not in kinds:
        raise OptionError(f"--out: found {str(target)!r}, wanted a file that ends in {' or '.join(kinds)}")
    model = load(run, device=device)
    if not isinstance(model, Encoder | AdversarialModel):
        raise RunError(
            f"RUN: {run} is a {type(model).__name__}, which has no codes of examples: wanted a run of a model"
            " that has codes, such as vae, autoencoder or ns-gan"
        )
    chosen = natural_path(model) if path is None else path
    generator = torch.Generator().manual_seed(seed)
    if isinstance(model, AdversarialModel):
        condition = None
        if model.spec.condition is not None:
            check_same_data(model.spec, opened.data, f"RUN: {run}")
            condition = shown_condition(model.spec, opened.data.test, n)
            condition = None if condition is None else condition.to(model.device)
        rows = interpolate_codes(
            model, n, steps=steps, path=chosen, condition=condition, generator=generator
        ).cpu()
        a, b = rows[:, 0], rows[:, -1]
    else:
        data = opened.data
        check_same_data(model.spec, data, f"RUN: {run}")
        examples = data.test if split == "test" else data.validation
        pairs = example_pairs(examples, model.spec, n, generator=generator)
        first, last = (side.to(model.device) for side in pairs)
        known = first.condition is not None and last.condition is not None
        conditions = (first.condition, last.condition) if known else None
        rows = between(model, first.x, last.x, steps=steps, path=chosen, condition=conditions).cpu()
        a, b = (side.x for side in pairs)
    with told_in_one_line("--out"):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix.lower() == ".npz":
            _write(target, a, b, rows)
        elif isinstance(model, AdversarialModel):
            image_grid(rows.flatten(0, 1), columns=steps).save(target)
        else:
            interpolation_picture(a, b, rows).save(target)
    if as_json:
        print_json(
            {
                "out": str(target),
                "run": run,
                "split": split if isinstance(model, Encoder) else None,
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
    with target.open("wb") as file:  # numpy would add .npz to a name that ends otherwise, as in .NPZ
        np.savez_compressed(file, a=first, b=last, interpolations=rows)
