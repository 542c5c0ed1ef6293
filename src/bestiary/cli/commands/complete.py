"""`bestiary complete`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bestiary.cli.opening import is_files, open_data
from bestiary.cli.options import Device, Json, RunFolder, Seed, complete_data, whole_number
from bestiary.cli.output import print_json, say
from bestiary.errors import OptionError, RunError

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from bestiary.data.splits import Batch
    from bestiary.models.base import Model
    from bestiary.runs import Run

_MASKS = "lower|upper|left|right|centre|random|FILE"
_AT_ONCE = 64  # completions, between two reports of progress


def complete(
    run: RunFolder,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|FILE",
            help="Whose images to take: a data set, a folder, .npy or .npz; by default the run's own.",
            autocompletion=complete_data,
        ),
    ] = None,
    mask: Annotated[
        str,
        typer.Option(
            metavar=_MASKS,
            help="What is hidden: a half, the centre, half of all pixels at random, or what is light in an"
            " image file of the same size.",
            autocompletion=lambda incomplete: [m for m in _MASKS.split("|")[:-1] if m.startswith(incomplete)],
        ),
    ] = "lower",
    n: Annotated[
        int, typer.Option("-n", parser=whole_number(1), metavar="N", help="Completions of each image.")
    ] = 5,
    images: Annotated[
        int, typer.Option(parser=whole_number(1), metavar="K", help="How many images, at most.")
    ] = 8,
    particles: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(1),
            metavar="P",
            help="Of each completion, for a model that draws in a fixed order: more are closer to the exact"
            " law, and slower.",
        ),
    ] = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="By default RUN-completed.png here."),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Hide a part of images and let a run fill it in, into a picture whose path is printed.

    A row is an image of the test split, the same with the hidden part in a flat colour, and its completions.
    Where the model has a likelihood, it is also told how likely what was hidden is to the model.
    """
    target = Path(f"{Path(run).resolve().name}-completed.png") if out is None else out
    if target.suffix.lower() != ".png":
        raise OptionError(f"--out: found {str(target)!r}, wanted a file that ends in .png")

    import torch

    from bestiary.data.specs import ImageSpec
    from bestiary.models.base import Completer
    from bestiary.runs import load, open_run
    from bestiary.tasks import completion_picture, observed_pixels
    from bestiary.training.files import told_in_one_line

    opened = open_run(run)
    model = load(run, device=device)
    if not isinstance(model, Completer) or not isinstance(model.spec, ImageSpec):
        raise RunError(f"RUN: {run} is a {type(model).__name__}, which fills in no images")
    generator = torch.Generator().manual_seed(seed)
    batch = _examples(opened, model, data, images, seed)
    observed = observed_pixels(mask, model.spec, len(batch), generator=generator)
    with told_in_one_line("--out"):
        target.parent.mkdir(parents=True, exist_ok=True)
    drawn, truth = _completed(model, batch, observed, n, particles, generator)
    with told_in_one_line("--out"):
        completion_picture(batch.x, observed, drawn).save(target)
    if as_json:
        print_json(
            {
                "out": str(target),
                "run": run,
                "mask": mask,
                "images": len(batch),
                "n": n,
                "seed": seed,
                **truth,
            }
        )
        return
    bits = truth["bits_per_dim"]
    if bits:
        say(f"the hidden pixels cost the model {sum(bits) / len(bits):.3g} bits/dim, given the others")
    print(target)


def _examples(run: "Run", model: "Model", data: str | None, n: int, seed: int) -> "Batch":
    from bestiary.data.specs import ImageSpec
    from bestiary.data.splits import Batch
    from bestiary.runs.folder import check_same_data
    from bestiary.tasks import read_images

    if data is not None and is_files(data):
        assert isinstance(model.spec, ImageSpec)
        if model.spec.condition is not None:
            raise OptionError(
                f"--data: found {data!r}, but the model of this run wants a condition with each image:"
                " wanted a data set that has it"
            )
        return Batch(read_images(data, model.spec, n, seed=seed))
    loaded = run.data if data is None else open_data(data, {})
    check_same_data(model.spec, loaded, f"RUN: {run.folder}")
    return next(iter(loaded.test.batches(n, limit=n)))


def _completed(
    model: "Model",
    batch: "Batch",
    observed: "Tensor",
    n: int,
    particles: int | None,
    generator: "Generator",
) -> tuple["Tensor", dict[str, Any]]:
    """Completions (n, B, C, H, W), and what is known about the truth, a number for each image."""
    import torch

    from bestiary.cli.counting import Counting
    from bestiary.tasks import complete

    drawn: list[Tensor] = []
    bits: list[float] = []
    effective: list[float | None] = []
    with Counting() as counting:
        for rows in torch.arange(len(batch)).split(max(1, _AT_ONCE // n)):
            found = complete(
                model,
                batch.x[rows].to(model.device),
                observed[rows].to(model.device),
                n=n,
                condition=None if batch.condition is None else batch.condition[rows].to(model.device),
                particles=particles,
                generator=generator,
            )
            drawn.append(found.images.cpu())
            if found.truth is not None:
                size = found.truth.effective_sample_size
                bits += found.truth.bits_per_dim.tolist()
                effective += [None] * len(rows) if size is None else size.tolist()
            counting("completing", int(rows[-1]) + 1, len(batch))
    return torch.cat(drawn, dim=1), {
        "bits_per_dim": bits or None,
        "effective_sample_size": effective if any(effective) else None,
    }
