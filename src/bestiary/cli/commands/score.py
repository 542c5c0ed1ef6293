"""`bestiary score`."""

from typing import Annotated

import typer

from bestiary.cli.options import Device, EmbeddingName, FeatureMetrics, Json, Seed, whole_number
from bestiary.cli.output import print_json, print_table, say
from bestiary.scores import SCORES

_METAVAR = "FOLDER|FILE"


def score(
    real: Annotated[str, typer.Option(metavar=_METAVAR, help="Real images: a folder, .npy or .npz.")],
    fake: Annotated[str, typer.Option(metavar=_METAVAR, help="Samples, in the same form.")],
    metrics: FeatureMetrics = None,
    embedding: EmbeddingName = None,
    n: Annotated[
        int,
        typer.Option("-n", parser=whole_number(2), metavar="N", help="From each, at most: a random part."),
    ] = 10_000,
    size: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(1),
            metavar="N",
            help="Bring the images of folders to N×N, where sizes differ.",
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score samples against real data without a model: two folders of images, or arrays.

    An array is an .npy or .npz of images (uint8, or floats in [0, 1], of shape (n, h, w), (n, h, w, c) or
    (n, c, h, w)) or of features (n, d). manifold is precision, recall, density and coverage; fid and kid are
    frechet and kernel on the network that the FID was defined with, and choose it.
    """
    from bestiary.cli.counting import Counting
    from bestiary.metrics.table import score_files
    from bestiary.study.results import show
    from bestiary.training.runtime import choose_device

    with Counting() as counting:
        table = score_files(
            real=real,
            fake=fake,
            metrics=metrics,
            embedding_name=embedding,
            n=n,
            size=size,
            seed=seed,
            device=choose_device(device),
            progress=counting,
        )
    for note in table.notes:
        say(f"note: {note}")
    for name, reason in table.unavailable.items():
        say(f"no {name}: {reason}")
    if as_json:
        scores = {name: {**score.__dict__} for name, score in table.scores.items()}
        print_json({"scores": scores, "notes": table.notes, "unavailable": table.unavailable})
        return
    print_table(
        ["score", "value", "better", "judges", "protocol"],
        [
            [name, show(found), SCORES[name].better, SCORES[name].judges, found.protocol]
            for name, found in table.scores.items()
        ],
        right=["value"],
    )
