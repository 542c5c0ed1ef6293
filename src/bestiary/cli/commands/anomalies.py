"""`bestiary anomalies`."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bestiary.cli.counting import Counting
from bestiary.cli.opening import is_files, open_data
from bestiary.cli.options import Device, Json, RunFolder, Seed, complete_data, one_of, whole_number
from bestiary.cli.output import print_heading, print_json, print_table, say
from bestiary.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

    from bestiary.data.splits import Batch, Data
    from bestiary.metrics import Score
    from bestiary.models.base import Model
    from bestiary.runs import Run
    from bestiary.tasks import RankedAnomalies

SCORES = ("auto", "likelihood", "bound", "reconstruction", "critic", "complexity")
_BATCH = 250
_TOLD = 20  # files that were left out


def anomalies(
    run: RunFolder,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|FILE",
            help="What to score: the test split of a data set, or all images of a folder, .npy or .npz; by"
            " default the test split of the run's own data, of all classes.",
            autocompletion=complete_data,
        ),
    ] = None,
    score: Annotated[
        Any,
        typer.Option(
            parser=one_of(*SCORES),
            metavar="|".join(SCORES),
            help="By what; auto is the first of the others that the model has.",
            autocompletion=lambda incomplete: [name for name in SCORES if name.startswith(incomplete)],
        ),
    ] = "auto",
    n: Annotated[
        int, typer.Option("-n", parser=whole_number(1), metavar="N", help="How many of the oddest to show.")
    ] = 16,
    seed: Seed = 0,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.png|FILE.csv",
            help="A picture of the oddest and the most ordinary, or a table of all; repeatable, by default"
            " RUN-anomalies.png and RUN-anomalies.csv here.",
        ),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find what is odd to a run: score every example, and print the oddest.

    Beside each stands how many of the run's own validation examples score at least as high. Of the classes
    that a run was not trained on (`train --data-set only=3`), and of other data than its own, it is told how
    well the score tells them apart: AUROC, 0.5 for chance.
    """
    from bestiary.data.specs import ImageSpec
    from bestiary.runs import load, open_run
    from bestiary.tasks import ANOMALY_SCORES, choose_anomaly_score
    from bestiary.training.files import told_in_one_line

    opened = open_run(run)
    kinds = (".png", ".csv") if isinstance(opened.config.spec, ImageSpec) else (".csv",)
    targets = out or [Path(f"{Path(run).resolve().name}-anomalies{kind}") for kind in kinds]
    for target in targets:
        if target.suffix.lower() not in kinds:
            wanted = " or ".join(kinds)
            raise OptionError(f"--out: found {str(target)!r}, wanted a file that ends in {wanted}")
    model = load(run, device=device)
    name = choose_anomaly_score(model, score)
    own = _own_data(opened, model)
    examples = _examples(opened, model, own, data)
    with told_in_one_line("--out"):
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
    say(f"score: {name}, {ANOMALY_SCORES[name]}")
    validation = own.validation
    reference = _ranked(
        model, validation.batches(_BATCH), len(validation), "validation examples", n, name, seed
    ).scores
    ranked = _ranked(model, examples.batches, examples.total, "examples", n, name, seed)
    aurocs = examples.aurocs(ranked.scores, reference)
    rows = examples.rows(ranked.scores, reference)
    with told_in_one_line("--out"):
        for target in targets:
            _write(target, rows, ranked)
    oddest, ordinary = ([rows[i] for i in some.tolist()] for some in (ranked.oddest, ranked.ordinary))
    if as_json:
        print_json(
            {
                "out": [str(target) for target in targets],
                "run": run,
                "data": examples.name,
                "score": name,
                "seed": seed,
                "examples": len(rows),
                "validation": len(reference),
                "oddest": oddest,
                "ordinary": ordinary,
                "auroc": {key: {**value.__dict__} for key, value in aurocs.items()},
            }
        )
        return
    _print(oddest, len(reference), aurocs, examples.normal)
    if examples.foreign and name in ("likelihood", "bound"):
        say(
            "note: images of another kind may well be more likely than the run's own, where they are simpler:"
            " compare --score complexity or reconstruction"
        )
    say(f"written: {', '.join(map(str, targets))}")


@dataclass(frozen=True)
class _Examples:
    """What is scored.

    Attributes:
        name: of the data.
        total: how many there are.
        batches: of them, once.
        files: theirs, as far as `batches` has given them; empty where they lie in none.
        labels: of examples of a data set, (N,), or None.
        classes: names of the labels.
        trained_on: labels of those that the run was trained on, where it was on some alone.
        foreign: whether they are other data than the run's own.
    """

    name: str
    total: int
    batches: "Iterator[Batch]"
    files: Callable[[], list[str]] = list
    labels: "Tensor | None" = None
    classes: Sequence[str] = ()
    trained_on: Sequence[int] = ()
    foreign: bool = False

    @property
    def normal(self) -> str:
        """Of whom the scores are that anomalies are compared with."""
        if self.foreign:
            return "the run's validation examples"
        return f"test examples of {', '.join(self.classes[k] for k in self.trained_on)}"

    def aurocs(self, scores: "Tensor", reference: "Tensor") -> "dict[str, Score]":
        """How well the scores tell apart what the run was not trained on."""
        import torch

        from bestiary.tasks import class_aurocs

        labels, classes = self._labelled()
        if self.foreign:
            return class_aurocs(normal=reference, anomalous=scores, labels=labels, classes=classes)
        if labels is None or not self.trained_on:
            return {}
        odd = ~torch.isin(labels, torch.tensor(self.trained_on))
        if not odd.any():
            return {}
        return class_aurocs(normal=scores[~odd], anomalous=scores[odd], labels=labels[odd], classes=classes)

    def rows(self, scores: "Tensor", reference: "Tensor") -> list[dict[str, Any]]:
        """Image, class where it is known, score, and how many of the reference are as odd, of each."""
        from bestiary.tasks import count_as_odd

        labels, classes = self._labelled()
        files = self.files()
        images = files or range(len(scores))
        named = [{}] * len(scores) if labels is None else [{"class": classes[k]} for k in labels.tolist()]
        as_odd = count_as_odd(scores, reference).tolist()
        return [
            {"image": image, **label, "score": score, "validation_as_odd": count}
            for image, label, score, count in zip(images, named, scores.tolist(), as_odd, strict=True)
        ]

    def _labelled(self) -> "tuple[Tensor | None, Sequence[str]]":
        """Labels and classes; of files in sub-folders, these."""
        import torch

        files = self.files()
        if files and all("/" in file for file in files):
            folders = [file.partition("/")[0] for file in files]
            number = {name: k for k, name in enumerate(sorted(set(folders)))}
            return torch.tensor([number[folder] for folder in folders]), list(number)
        return (self.labels if self.classes else None), self.classes


def _own_data(run: "Run", model: "Model") -> "Data":
    """What the run was trained on."""
    from bestiary.runs.folder import check_same_data

    own = run.data
    check_same_data(model.spec, own, f"RUN: {run.folder}")
    if own.fingerprint != run.config.data["fingerprint"]:
        say("note: the run's data are no longer what they were when it was trained on them")
    return own


def _examples(run: "Run", model: "Model", own: "Data", data: str | None) -> _Examples:
    from bestiary.data import load_data
    from bestiary.data.part import class_numbers
    from bestiary.runs.folder import check_same_data

    if data is not None and is_files(data):
        return _of_files(model, data)
    if data is not None:
        other = open_data(data, {})
        check_same_data(model.spec, other, f"RUN: {run.folder}")
        return _of_test_split(other, foreign=True)
    options = dict(run.config.data["options"])
    only = options.pop("only", None)
    if only is None or model.spec.condition is not None:  # a model of some classes knows no other condition
        return _of_test_split(own)
    whole = load_data(run.config.data["source"], **options)
    assert whole.classes is not None
    return _of_test_split(whole, trained_on=class_numbers(only, whole.classes))


def _of_test_split(data: "Data", *, foreign: bool = False, trained_on: Sequence[int] = ()) -> _Examples:
    test = data.test
    return _Examples(
        data.name,
        len(test),
        test.batches(_BATCH),
        labels=test.labels,
        classes=data.classes or (),
        trained_on=trained_on,
        foreign=foreign,
    )


def _of_files(model: "Model", path: str) -> _Examples:
    from bestiary.data.specs import ImageSpec
    from bestiary.data.splits import Batch
    from bestiary.tasks import image_batches, open_images

    if not isinstance(model.spec, ImageSpec):
        raise OptionError(f"--data: found {path!r}, but the model of this run is of no images")
    if model.spec.condition is not None:
        raise OptionError(
            f"--data: found {path!r}, but the model of this run wants a condition with each image:"
            " wanted a data set that has it"
        )
    source = open_images(path, model.spec)
    spec = model.spec

    def batches() -> Iterator[Batch]:
        for x in image_batches(source, spec, _BATCH):
            yield Batch(x)
        for file, reason in sorted(source.left_out.items())[:_TOLD]:
            say(f"left out {file!r}: it {reason}")

    return _Examples(path, len(source), batches(), files=lambda: source.files, foreign=True)


def _ranked(
    model: "Model", batches: "Iterator[Batch]", total: int, what: str, n: int, score: str, seed: int
) -> "RankedAnomalies":
    import torch

    from bestiary.tasks import rank_anomalies

    with Counting() as counting:
        return rank_anomalies(
            model,
            batches,
            n=n,
            score=score,
            generator=torch.Generator().manual_seed(seed),
            progress=lambda done: counting(what, done, total),
        )


def _write(target: Path, rows: list[dict[str, Any]], ranked: "RankedAnomalies") -> None:
    from bestiary.tasks import anomaly_picture

    if target.suffix.lower() == ".png":
        anomaly_picture(ranked).save(target)
        return
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _print(oddest: list[dict[str, Any]], validation: int, aurocs: "dict[str, Score]", normal: str) -> None:
    columns = [*(key for key in oddest[0] if key != "validation_as_odd"), "validation as odd"]
    print_table(
        columns,
        [
            [
                *(
                    f"{value:.6g}" if isinstance(value, float) else str(value)
                    for value in list(row.values())[:-1]
                ),
                f"{row['validation_as_odd']:,} of {validation:,}",
            ]
            for row in oddest
        ],
        right=["score", "validation as odd"],
    )
    if aurocs:
        print_heading(f"AUROC against {normal}")
        print_table(
            ["class", "AUROC", "error"],
            [
                [name, f"{found.value:.4f}", "" if found.error is None else f"{found.error:.4f}"]
                for name, found in aurocs.items()
            ],
            right=["AUROC", "error"],
        )
