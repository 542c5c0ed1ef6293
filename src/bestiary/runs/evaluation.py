"""Score a trained model: likelihood, and samples against real data, each with its error bar and full name."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bestiary.data.specs import ImageSpec, SequenceSpec
from bestiary.data.splits import Data
from bestiary.errors import DataError, OptionError, unknown_name
from bestiary.metrics.results import Score
from bestiary.models.base import Model, Sampler
from bestiary.runs.findings import Evaluation, Reference, SplitName
from bestiary.runs.folder import Run, check_same_data, load, open_run
from bestiary.runs.json_lines import append_line
from bestiary.runs.model_scores import add_model_score
from bestiary.runs.observers import score_line
from bestiary.runs.sample_scores import SampleScores, has_classes, has_known_modes
from bestiary.scores import DEFAULT_EMBEDDING, EMBEDDINGS, METRICS, SCORES
from bestiary.training.checkpoint import newest
from bestiary.training.files import told_in_one_line
from bestiary.training.runtime import choose_device

_SAMPLE_CHUNK = 500


class Evaluator:
    """Scores any number of models on the same examples of one split; real features are computed once.

    Attributes:
        data: the data set.
        n: number of real examples and of samples.

    Arguments:
        data: the data set.
        n: number of real examples and of samples; at most what the split has.
        split: "validation" to choose models, "test" for the report.
        embedding: name of the network that turns images into features, or a network of your own.
        seed: of samples, of bounds and of the metrics.
        device: where images are turned into features; a model computes where it is.

    Raises:
        OptionError: an unknown split or embedding, fewer than two examples, or a device that this machine
            does not have.
        DataError: a split of fewer than two examples.
    """

    def __init__(
        self,
        data: Data,
        *,
        n: int = 10_000,
        split: SplitName = "test",
        embedding: str | nn.Module = DEFAULT_EMBEDDING,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        if split not in ("validation", "test"):
            raise unknown_name("split", split, ["validation", "test"])
        if isinstance(embedding, str) and embedding not in EMBEDDINGS:
            raise unknown_name("embedding", embedding, EMBEDDINGS)
        if n < 2:
            raise OptionError(f"n: found {n}, wanted at least 2 examples")
        self.data = data
        self.n = min(n, len(data.test if split == "test" else data.validation))
        if self.n < 2:
            raise DataError(
                f"data: the {split} split of {data.name} has {self.n} examples, wanted at least 2"
            )
        self._reference = Reference(data, split, self.n, seed)
        self._of_samples = SampleScores(self._reference, embedding, choose_device(device))

    @property
    def real(self) -> Tensor:
        """The real examples, shape (n, *spec.shape)."""
        return self._reference.real

    def evaluate(self, model: Model, names: Iterable[str] | None = None) -> Evaluation:
        """Score one model.

        Arguments:
            model: the model.
            names: metrics of `bestiary.scores.METRICS`; None for `default_metrics(data)`.

        Raises:
            OptionError: an unknown metric.
            BestiaryError: data of another spec than the model's.
        """
        chosen = self._chosen(names)
        check_same_data(model.spec, self.data, "model")
        found = Evaluation()
        for name in chosen:
            if METRICS[name].of == "model":
                add_model_score(name, model, self._reference, found)
        judged = [name for name in chosen if METRICS[name].of == "samples"]
        if judged and not isinstance(model, Sampler):
            found.lack(judged, f"{type(model).__name__} is no sampler")
        elif judged and isinstance(model.spec, SequenceSpec):
            found.lack(judged, f"no metric of samples knows sequences, as in {self.data.name}")
        elif judged:
            self._draw(model, found)
            if found.samples is None:
                found.lack(judged, "its samples are not finite")
            else:
                self._of_samples.add(judged, found)
        return found

    def floor(self, names: Iterable[str] | None = None) -> Evaluation:
        """What other real examples of the same data score in place of samples: the real/real floor."""
        found = Evaluation()
        judged = [name for name in self._chosen(names) if METRICS[name].of == "samples"]
        if judged and not isinstance(self.data.spec, SequenceSpec):
            self._of_samples.add_floor(judged, found)
        return found

    def _chosen(self, names: Iterable[str] | None) -> list[str]:
        return default_metrics(self.data) if names is None else check_metrics(names)

    def _draw(self, model: Model, found: Evaluation) -> None:
        assert isinstance(model, Sampler)
        condition = self._reference.examples[: self.n].condition
        generator = self._reference.generator(2)
        start, parts = time.perf_counter(), []
        for first in range(0, self.n, _SAMPLE_CHUNK):
            count = min(_SAMPLE_CHUNK, self.n - first)
            part = None if condition is None else condition[first : first + count].to(model.device)
            with torch.no_grad():
                parts.append(model.sample(count, condition=part, generator=generator).cpu())
        found.sampling_seconds = (time.perf_counter() - start) * 1000 / self.n
        if all(bool(part.isfinite().all()) for part in parts):
            found.samples = torch.cat(parts)


def default_metrics(data: Data) -> list[str]:
    """What is taken where nobody says which: metrics that cost little beside the features, where data allow.

    `classes` wants images with labels, `modes` data whose modes are known, `memorisation` training data that
    repeat, `reconstruction` images. Of models of sequences the likelihood alone is known.
    """
    if isinstance(data.spec, SequenceSpec):
        return ["likelihood"]
    allowed = {
        "classes": has_classes(data),
        "modes": has_known_modes(data),
        "memorisation": not data.train.endless,
        "reconstruction": isinstance(data.spec, ImageSpec),
    }
    return [name for name, metric in METRICS.items() if metric.default and allowed.get(name, True)]


def check_metrics(names: Iterable[str]) -> list[str]:
    """The names, each checked and once.

    Raises:
        OptionError: an unknown metric; the message names the nearest.
    """
    checked = list(dict.fromkeys(names))
    for name in checked:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    return checked


def score_while_training(
    data: Data,
    names: Sequence[str],
    *,
    n: int = 1000,
    embedding: str | nn.Module = DEFAULT_EMBEDDING,
    device: str = "auto",
) -> Callable[[Model], Mapping[str, Score]]:
    """What `train(score=…)` wants: these metrics of a model, on `n` examples of the validation split.

    Raises:
        OptionError: an unknown metric, embedding or device.
    """
    checked = check_metrics(names)
    evaluator = Evaluator(data, n=n, split="validation", embedding=embedding, device=device)
    return lambda model: evaluator.evaluate(model, checked).scores


def evaluate(
    run: str | Path | Run,
    data: Data | None = None,
    *,
    metrics: Sequence[str] | None = None,
    n: int = 10_000,
    split: SplitName = "validation",
    embedding: str | nn.Module = DEFAULT_EMBEDDING,
    seed: int = 0,
    model: type[Model] | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Score]:
    """Score a run, and add the scores to its scores.jsonl.

    A score whose value is not finite is left out.

    Arguments:
        run: a run, or its folder.
        data: by default the data that it was trained on.
        metrics: of `bestiary.scores.METRICS`; None for those that cost little and suit the data.
        n: number of real examples and of samples; at most what the split has.
        split: "validation" while models are still being chosen, "test" once for the report.
        embedding: name of the network that turns images into features, or a network of your own, as for
            `bestiary.metrics.embedding`; "fid" and "kid" are on the FID's network whatever this is.
        seed: of samples, of bounds and of the metrics.
        model: your own class, for a run of a model that is not of the catalogue.
        device: where to compute: "auto" for the fastest there is, "cpu", "cuda", "mps".
        say: told, in a line each, which scores this model cannot have and why, and what to know before
            believing the others: what its training warned of, too.

    Raises:
        RunError: no run folder, or no sound checkpoint in it.
        OptionError: an unknown metric, split, embedding or device.
        DataError: data that are not there, or of another kind than the model's, or no score to be had.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    if metrics is not None:
        check_metrics(metrics)
    if data is None:
        data = opened.data
    trained = load(opened.folder, model=model, device=device)
    evaluator = Evaluator(data, n=n, split=split, embedding=embedding, seed=seed, device=device)
    found = evaluator.evaluate(trained, metrics)
    lacking: dict[str, list[str]] = {}
    for name, reason in found.unavailable.items():
        lacking.setdefault(reason, []).append(name)
    for reason, names in lacking.items():
        say(f"no {', '.join(names)}: {reason}")
    for note in (*opened.state.get("warnings", ()), *found.notes):
        say(f"note: {note}")
    if not found.scores:
        raise DataError("metrics: " + ("; ".join(lacking) or "found none, wanted at least one"))
    scores = {name: found.scores[name] for name in SCORES if name in found.scores}
    checkpoint = newest(opened.folder / "checkpoints")
    examples = checkpoint[1]["clock"]["examples"] if checkpoint else 0
    if opened.status == "diverged":
        reason = opened.state["reason"]
        say(f"note: the run diverged ({reason}); scored are its weights after {examples:,} examples")

    def line(name: str, score: Score) -> dict[str, object]:
        return score_line(name, score, examples, split, seed) | {"data": data.name}

    with told_in_one_line("run"):
        for name, score in scores.items():
            append_line(opened.folder / "scores.jsonl", line(name, score))
    return scores


def plain_scores(scores: Mapping[str, Score]) -> dict[str, dict[str, object]]:
    """Scores as plain data for JSON."""
    return {name: {**score.__dict__} for name, score in scores.items()}
