"""Score a trained model: likelihood, and samples against real data, each with its error bar and full name."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from bestiary import metrics
from bestiary.data import load_data
from bestiary.data.specs import ImageSpec
from bestiary.data.splits import Data, Split
from bestiary.errors import DataError, OptionError, unknown_name
from bestiary.metrics.embeddings import ClassifierEmbedding, Embedding, cached_features, embedding
from bestiary.metrics.results import Score
from bestiary.models.base import Likelihood, LikelihoodBound, Model, Sampler
from bestiary.randomness import derive_seed
from bestiary.runs.folder import Run, append_line, check_same_data, load, open_run
from bestiary.runs.observers import score_line
from bestiary.training.files import told_in_one_line

SplitName = Literal["validation", "test"]
METRICS = ("likelihood", "frechet", "prd", "classes", "memorisation")
DEFAULT_EMBEDDING = "efficientnet-lite0"

PARTICLES = 32
_LIKELIHOOD_CHUNK = 250
_SAMPLE_CHUNK = 500


@dataclass
class Evaluation:
    """What was found out about one model.

    Attributes:
        scores: by name.
        unavailable: name of a score that this model cannot have → why.
        precision, recall: the PRD curve, or None.
        samples: what the sample metrics judged, shape (n, *spec.shape), or None.
        sampling_seconds: for 1,000 samples, or None.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    precision: Tensor | None = None
    recall: Tensor | None = None
    samples: Tensor | None = None
    sampling_seconds: float | None = None


class Evaluator:
    """Scores any number of models on the same examples of one split; real features are computed once.

    Arguments:
        data: the data set.
        n: number of real examples and of samples; at most what the split has.
        split: "validation" to choose models, "test" for the report.
        embedding_name: of the network that turns images into features.
        seed: of samples, of bounds and of the metrics.

    Raises:
        OptionError: an unknown split, or fewer than two examples.
    """

    def __init__(
        self,
        data: Data,
        *,
        n: int = 10_000,
        split: SplitName = "test",
        embedding_name: str = DEFAULT_EMBEDDING,
        seed: int = 0,
    ) -> None:
        if split not in ("validation", "test"):
            raise unknown_name("split", split, ["validation", "test"])
        if n < 2:
            raise OptionError(f"n: found {n}, wanted at least 2 examples")
        self.data, self.split, self.seed = data, split, seed
        self._real: Split = data.test if split == "test" else data.validation
        self._other: Split = data.validation if split == "test" else data.test
        self.n = min(n, len(self._real))
        if self.n < 2:
            raise DataError(
                f"data: the {split} split of {data.name} has {self.n} examples, wanted at least 2"
            )
        self._embedding_name = embedding_name

    def evaluate(self, model: Model, names: Iterable[str] = METRICS) -> Evaluation:
        """Score one model.

        Raises:
            OptionError: an unknown metric.
            BestiaryError: data of another spec than the model's.
        """
        names = check_metrics(names)
        check_same_data(model.spec, self.data, "model")
        found = Evaluation()
        if "likelihood" in names:
            self._likelihood(model, found)
        judged = [name for name in names if name != "likelihood"]
        if judged and not isinstance(model, Sampler):
            found.unavailable |= {name: f"{type(model).__name__} is no sampler" for name in judged}
        elif judged:
            self._draw(model, found)
            for name in judged:
                self._judge(name, found)
        return found

    def floor(self, names: Iterable[str] = METRICS) -> Evaluation:
        """What other real examples of the same data score in place of samples: the real/real floor."""
        found = Evaluation(samples=self._other[: min(self.n, len(self._other))].x)
        for name in check_metrics(names):
            if name != "likelihood":
                self._judge(name, found)
        return found

    @cached_property
    def real(self) -> Tensor:
        """The real examples, shape (n, *spec.shape)."""
        return self._real[: self.n].x

    @cached_property
    def embedding(self) -> Embedding | None:
        """The network behind the features; None for points, which are their own features."""
        if not isinstance(self.data.spec, ImageSpec):
            return None
        return embedding(self._embedding_name, data=self.data)

    @cached_property
    def _real_features(self) -> Tensor:
        if self.embedding is None:
            return self._features(self.real)
        return cached_features(
            self.embedding, self._real, n=self.n, fingerprint=self.data.fingerprint, part=self.split
        )

    def _features(self, x: Tensor) -> Tensor:
        return x.flatten(1) if self.embedding is None else self.embedding.features(x)

    @cached_property
    def _classifier(self) -> ClassifierEmbedding:
        found = embedding("classifier", data=self.data)
        assert isinstance(found, ClassifierEmbedding)
        return found

    def _generator(self, what: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, what))

    def _likelihood(self, model: Model, found: Evaluation) -> None:
        if not isinstance(model, Likelihood | LikelihoodBound):
            reason = f"{type(model).__name__} has no likelihood"
            found.unavailable |= {"nats": reason, "bits_per_dim": reason}
            return
        kinds: dict[str, Callable[[Tensor, Tensor | None, torch.Generator], Tensor]] = {}
        if isinstance(model, Likelihood):
            exact = model
            kinds["exact"] = lambda x, condition, _: exact.log_prob(x, condition=condition)
        else:
            bound = model
            kinds[f"importance-weighted bound, {PARTICLES} particles"] = lambda x, condition, generator: (
                bound.log_prob_bound(x, particles=PARTICLES, condition=condition, generator=generator)
            )
            kinds["elbo"] = lambda x, condition, generator: bound.elbo(
                x, condition=condition, generator=generator
            )
        treatment = {
            "mass": f"log mass of {getattr(model.spec, 'levels', '')} levels",
            "dequantised": "dequantised bound",
            "density": "density",
            "grey Bernoulli": "Bernoulli formula on grey levels, the likelihood of nothing",
        }[model.treatment]
        for prefix, (kind, log_prob) in zip(("", "elbo_"), kinds.items(), strict=False):
            generator = self._generator(1)
            parts = []
            for batch in self._real.batches(_LIKELIHOOD_CHUNK, limit=self.n):
                on_device = batch.to(model.device)
                with torch.no_grad():
                    parts.append(log_prob(on_device.x, on_device.condition, generator).cpu())
            nats = -torch.cat(parts).double()
            protocol = f"likelihood[{kind}, {treatment}, n={self.n}, {self.split}]"
            error = float(nats.std()) / math.sqrt(len(nats))
            found.scores[f"{prefix}nats"] = Score(float(nats.mean()), error, self.n, 0, protocol)
            if model.treatment in ("mass", "dequantised"):
                per_bit = math.log(2) * model.spec.dimensions
                found.scores[f"{prefix}bits_per_dim"] = Score(
                    float(nats.mean()) / per_bit, error / per_bit, self.n, 0, protocol
                )
            else:
                found.unavailable[f"{prefix}bits_per_dim"] = f"a {treatment} has no bits/dim"

    def _draw(self, model: Model, found: Evaluation) -> None:
        assert isinstance(model, Sampler)
        condition = self._real[: self.n].condition
        generator = self._generator(2)
        start, parts = time.perf_counter(), []
        for first in range(0, self.n, _SAMPLE_CHUNK):
            count = min(_SAMPLE_CHUNK, self.n - first)
            part = None if condition is None else condition[first : first + count].to(model.device)
            with torch.no_grad():
                parts.append(model.sample(count, condition=part, generator=generator).cpu())
        found.sampling_seconds = (time.perf_counter() - start) * 1000 / self.n
        found.samples = torch.cat(parts)

    def _judge(self, name: str, found: Evaluation) -> None:
        assert found.samples is not None
        if name == "classes":
            self._classes(found.samples, found)
        elif name == "memorisation":
            self._memorisation(found.samples, found)
        else:
            features = self._features(found.samples)
            embedding = "points" if self.embedding is None else self.embedding.protocol
            embedding = f"{embedding}, {self.split}"
            if name == "frechet":
                found.scores["frechet"] = metrics.frechet_distance(
                    real=self._real_features, fake=features, embedding=embedding
                )
            else:
                curve = metrics.precision_recall_curve(
                    real=self._real_features, fake=features, generator=self._generator(3), embedding=embedding
                )
                found.precision, found.recall = curve.precision, curve.recall
                found.scores |= {"prd_f8": curve.score(8), "prd_f1_8": curve.score(1 / 8)}

    def _classes(self, samples: Tensor, found: Evaluation) -> None:
        if self.data.classes is None or not isinstance(self.data.spec, ImageSpec):
            reason = f"{self.data.name} has no class labels"
            found.unavailable |= {"classes_found": reason, "class_confidence": reason}
            return
        classifier = self._classifier
        probabilities = classifier.probabilities(samples)
        coverage = metrics.class_coverage(probabilities=probabilities, embedding=classifier.protocol)
        confidences = probabilities.max(dim=1).values
        found.scores["classes_found"] = _plain_score(coverage)
        found.scores["class_confidence"] = Score(
            coverage.confidence,
            float(confidences.std()) / math.sqrt(len(confidences)),
            0,
            len(samples),
            coverage.protocol,
        )

    def _memorisation(self, samples: Tensor, found: Evaluation) -> None:
        train = self.data.train
        if train.endless:
            found.unavailable["memorisation"] = "the training data are made on demand and never repeat"
            return
        found.scores["memorisation"] = _plain_score(
            metrics.memorisation(
                train=train[:].x.flatten(1),
                held_out=self._real[:].x.flatten(1),
                fake=samples.flatten(1),
                embedding=f"pixels, {self.split}",
            )
        )


def _plain_score(score: Score) -> Score:
    """What a file of scores holds, without what some metrics tell beyond it."""
    return Score(score.value, score.error, score.n_real, score.n_fake, score.protocol)


def score_while_training(
    data: Data, names: Sequence[str], *, n: int = 1000, embedding: str = DEFAULT_EMBEDDING
) -> Callable[[Model], Mapping[str, Score]]:
    """What `train(score=…)` wants: these metrics of a model, on `n` examples of the validation split.

    Raises:
        OptionError: an unknown metric.
    """
    checked = check_metrics(names)
    evaluator = Evaluator(data, n=n, split="validation", embedding_name=embedding)
    return lambda model: evaluator.evaluate(model, checked).scores


def check_metrics(names: Iterable[str]) -> list[str]:
    """The names, each checked.

    Raises:
        OptionError: an unknown metric; the message names the nearest.
    """
    checked = list(names)
    for name in checked:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    return checked


def evaluate(
    run: str | Path | Run,
    data: Data | None = None,
    *,
    metrics: Sequence[str] = METRICS,
    n: int = 10_000,
    split: SplitName = "validation",
    embedding: str = DEFAULT_EMBEDDING,
    seed: int = 0,
    model: type[Model] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Score]:
    """Score a run, and add the scores to its scores.jsonl.

    Arguments:
        run: a run, or its folder.
        data: by default the data that it was trained on.
        metrics: of `METRICS`.
        n: number of real examples and of samples; at most what the split has.
        split: "validation" while models are still being chosen, "test" once for the report.
        embedding: of the network that turns images into features.
        seed: of samples, of bounds and of the metrics.
        model: your own class, for a run of a model that is not of the catalogue.
        say: told, in a line each, which scores this model cannot have, and why.

    Raises:
        RunError: no run folder, or no sound checkpoint in it.
        OptionError: an unknown metric, split or embedding.
        DataError: data that are not there, or of another kind than the model's, or no score to be had.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    check_metrics(metrics)
    if data is None:
        data = load_data(opened.config.data["source"], **opened.config.data["options"])
    trained = load(opened.folder, model=model)
    evaluator = Evaluator(data, n=n, split=split, embedding_name=embedding, seed=seed)
    found = evaluator.evaluate(trained, metrics)
    for name, reason in found.unavailable.items():
        say(f"no {name}: {reason}")
    if not found.scores:
        raise DataError("metrics: " + "; ".join(dict.fromkeys(found.unavailable.values())))
    examples = opened.state.get("clock", {}).get("examples", 0)
    with told_in_one_line("run"):
        for name, score in found.scores.items():
            append_line(opened.folder / "scores.jsonl", score_line(name, score, examples, split, seed))
    return found.scores


def plain_scores(scores: Mapping[str, Score]) -> dict[str, dict[str, object]]:
    """Scores as plain data for JSON."""
    return {name: {**score.__dict__} for name, score in scores.items()}
