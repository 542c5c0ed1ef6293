"""Samples against real examples: every metric that `bestiary.scores.METRICS` has of "samples"."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from bestiary import metrics
from bestiary.data.points import NOISY_1200D, grid_centres, mixture_1200d_centres, ring_centres
from bestiary.data.specs import ImageSpec
from bestiary.data.splits import Data, flat_parts
from bestiary.data.stacked import singles_of
from bestiary.metrics.embeddings import ClassifierEmbedding, Embedding, cached_features, embedding
from bestiary.metrics.results import Score
from bestiary.metrics.table import imagenet_probabilities, score_features
from bestiary.runs.findings import Evaluation, Reference
from bestiary.scores import FEATURE_METRICS, FID_NAMES, FID_NETWORK

_WIDTH_CHOSEN_ON = 1000  # examples, for the Parzen window
_BATCH = 500

# Of each mixture with known modes: their centres, their deviation, and the dimensions they extend in.
_Modes = tuple[Tensor, float, int | None]
_MIXTURES: Mapping[str, Callable[[Mapping[str, Any]], _Modes]] = {
    "ring": lambda options: (ring_centres(options["modes"], options["radius"]), options["sigma"], None),
    "grid": lambda options: (grid_centres(options["side"], options["spacing"]), options["sigma"], None),
    "mixture-1200d": lambda _: (mixture_1200d_centres(), 1.0, NOISY_1200D),
}
_STACKED = ("stacked-mnist", "stacked-fashion-mnist")


def has_known_modes(data: Data) -> bool:
    """Whether `modes` can count what it finds in these data."""
    return data.source in _MIXTURES or data.source in _STACKED


def has_classes(data: Data) -> bool:
    """Whether `classes` has a classifier for these data."""
    return data.classes is not None and isinstance(data.spec, ImageSpec)


class SampleScores:
    """Scores any number of sets of samples against the same real examples, whose features are made once.

    Arguments:
        reference: the real examples.
        embedding: name of the network that turns images into features, or a network of your own; points
            are their own features.
        device: where images are turned into features.
    """

    def __init__(self, reference: Reference, embedding: str | nn.Module, device: torch.device) -> None:
        self._reference, self._asked, self._device = reference, embedding, device
        self._network = cache(self._make_network)
        self._real_features = cache(self._make_real_features)

    def add(self, names: Iterable[str], found: Evaluation) -> None:
        """Add what these metrics say of `found.samples`."""
        assert found.samples is not None
        samples = found.samples
        self._add(names, samples, found, lambda network: self._embedded(network, samples))

    def add_floor(self, names: Iterable[str], found: Evaluation) -> None:
        """The same of other real examples in place of samples; their features are kept for the next time."""
        reference = self._reference
        n = min(reference.n, len(reference.others))
        found.samples = reference.others[:n].x

        def features(network: Embedding | None) -> Tensor:
            if network is None:
                return self._embedded(None, reference.others[:n].x)
            return cached_features(
                network,
                reference.others,
                n=n,
                fingerprint=reference.data.fingerprint,
                part=reference.other_split,
                device=self._device,
            )

        self._add(names, found.samples, found, features)

    def _add(
        self,
        names: Iterable[str],
        samples: Tensor,
        found: Evaluation,
        features: Callable[[Embedding | None], Tensor],
    ) -> None:
        names = list(names)
        if not self._is_images:
            without = [name for name in names if name in FID_NAMES.values()]
            found.lack(without, f"{self._reference.data.name} has no images")
            names = [name for name in names if name not in without]
        others: dict[str, Callable[[Tensor, Evaluation], None]] = {
            "classes": self._classes,
            "memorisation": self._memorisation,
            "modes": self._modes,
            "parzen": self._parzen,
        }
        for asked, of_features in self._by_network(names):
            network = self._network(asked)
            self._compare(of_features, network, features(network), found)
        for name in names:
            if name in others:
                others[name](samples, found)

    def _by_network(self, names: list[str]) -> Iterator[tuple[str | nn.Module, list[str]]]:
        """Each embedding with what is computed on it, in the names of `FEATURE_METRICS`."""
        plain = [name for name in names if name in FEATURE_METRICS]
        of_fid = [name for name, short in FID_NAMES.items() if short in names]
        if self._asked == FID_NETWORK:
            plain, of_fid = list(dict.fromkeys([*plain, *of_fid])), []
        if plain:
            yield self._asked, plain
        if of_fid:
            yield FID_NETWORK, of_fid

    def _compare(
        self, names: list[str], network: Embedding | None, features: Tensor, found: Evaluation
    ) -> None:
        reference = self._reference
        table = score_features(
            real=self._real_features(network),
            fake=features,
            metrics=names,
            embedding=f"{'points' if network is None else network.protocol}, {reference.split}",
            fid_names=network is not None and network.name == FID_NETWORK,
            probabilities=None if network is None else imagenet_probabilities(network, features),
            seed=reference.seed,
        )
        for name, score in table.scores.items():
            found.add(name, score)
        found.unavailable |= table.unavailable
        found.notes += [note for note in table.notes if note not in found.notes]
        if table.curve is not None:
            found.precision, found.recall = table.curve.precision, table.curve.recall

    @property
    def _is_images(self) -> bool:
        return isinstance(self._reference.data.spec, ImageSpec)

    def _make_network(self, asked: str | nn.Module) -> Embedding | None:
        return embedding(asked, data=self._reference.data) if self._is_images else None

    def _make_real_features(self, network: Embedding | None) -> Tensor:
        reference = self._reference
        if network is None:
            return self._embedded(None, reference.real)
        return cached_features(
            network,
            reference.examples,
            n=reference.n,
            fingerprint=reference.data.fingerprint,
            part=reference.split,
            device=self._device,
        )

    def _embedded(self, network: Embedding | None, x: Tensor) -> Tensor:
        return x.flatten(1) if network is None else network.features(x, device=self._device)

    @cached_property
    def _classifier(self) -> ClassifierEmbedding:
        data = self._reference.data
        found = embedding("classifier", data=singles_of(data) if data.source in _STACKED else data)
        assert isinstance(found, ClassifierEmbedding)
        return found

    def _classes(self, samples: Tensor, found: Evaluation) -> None:
        if not has_classes(self._reference.data):
            found.lack(["classes"], f"{self._reference.data.name} has no images with class labels")
            return
        probabilities = self._classifier.probabilities(samples)
        coverage = metrics.class_coverage(probabilities=probabilities, embedding=self._classifier.protocol)
        error = float(probabilities.max(dim=1).values.std()) / math.sqrt(len(samples))
        found.add("classes_found", coverage)
        found.add(
            "class_confidence",
            Score(coverage.confidence, error, 0, len(samples), coverage.protocol),
        )

    def _memorisation(self, samples: Tensor, found: Evaluation) -> None:
        reference, train = self._reference, self._reference.data.train
        if train.endless:
            found.lack(["memorisation"], "the training data are made on demand and never repeat")
            return
        score = metrics.memorisation(
            train=flat_parts(train),
            held_out=reference.examples[:].x.flatten(1),
            fake=samples.flatten(1),
            embedding=f"pixels, {reference.split}",
        )
        found.add("memorisation", score)

    def _modes(self, samples: Tensor, found: Evaluation) -> None:
        data = self._reference.data
        if data.source in _STACKED:
            coverage = metrics.stacked_mode_coverage(
                probabilities=metrics.channel_probabilities(samples.split(_BATCH), self._classifier),
                embedding=self._classifier.protocol,
            )
        elif data.source in _MIXTURES:
            centres, sigma, dimensions = _MIXTURES[data.source](data.options)
            coverage = metrics.mode_coverage(
                fake=samples, centres=centres, sigma=sigma, dimensions=dimensions
            )
            found.add("mode_quality", coverage.quality)
        else:
            found.lack(["modes"], f"the modes of {data.name} are not known")
            return
        found.add("modes_found", coverage)
        if not sum(coverage.counts):
            found.lack(["mode_forward_kl", "mode_reverse_kl"], "no sample is near a mode")
            return
        missed = coverage.modes - int(coverage.value)
        reason = f"it is infinite, for {missed:,} of {coverage.modes:,} modes are missed"
        found.add("mode_forward_kl", coverage.forward_kl, infinite=reason)
        found.add("mode_reverse_kl", coverage.reverse_kl)

    def _parzen(self, samples: Tensor, found: Evaluation) -> None:
        reference = self._reference
        # Not on what is scored, and never on the test split, which is read once for the report.
        chosen_on = reference.data.validation if reference.split == "test" else reference.data.train
        validation = next(chosen_on.batches(_WIDTH_CHOSEN_ON, limit=_WIDTH_CHOSEN_ON)).x
        score = metrics.parzen_window(
            real=reference.real.flatten(1),
            fake=samples.flatten(1),
            validation=validation.flatten(1),
            embedding=f"{'pixels' if self._is_images else 'points'}, {reference.split}",
        )
        found.add("parzen", score)
