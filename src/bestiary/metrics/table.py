"""The whole table of sample metrics for two sets of images or of features, no model needed."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from bestiary.data.decode import quiet
from bestiary.data.sources import Features, ImageSource, open_source
from bestiary.errors import DataError, OptionError, unknown_name
from bestiary.metrics.classes import inception_score
from bestiary.metrics.embeddings import ClassifierEmbedding, Embedding, embedding
from bestiary.metrics.features import Array, check_pair
from bestiary.metrics.frechet import frechet_distance
from bestiary.metrics.kernel import kernel_distance
from bestiary.metrics.manifold import precision_recall_density_coverage
from bestiary.metrics.prd import PrecisionRecallCurve, precision_recall_curve
from bestiary.metrics.results import Score
from bestiary.randomness import derive_seed
from bestiary.scores import DEFAULT_EMBEDDING, FEATURE_METRICS, FID_NAMES, FID_NETWORK

# The fewest examples of each set that a metric takes.
_MINIMUM = {"frechet": 2, "kernel": 2, "prd": 20, "manifold": 7, "inception-score": 20}
_BATCH = 25  # images: less is slow in itself, with more the memory of each layer comes fresh from the system
_IMAGENET_CLASSES = 1000
_EXTRAPOLATED_FROM = 4  # times d

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Table:
    """Scores of one set of samples against real examples.

    Attributes:
        scores: by name, each with its error bar, sizes and protocol.
        notes: what to know before believing them, a line each: samples that are too few, and files that were
            left out.
        unavailable: metric that was asked for → why it is not there.
        curve: of precision and recall, where "prd" was asked for.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unavailable: dict[str, str] = field(default_factory=dict)
    curve: PrecisionRecallCurve | None = None


def score_files(
    *,
    real: str | os.PathLike[str],
    fake: str | os.PathLike[str],
    metrics: Sequence[str] | None = None,
    embedding_name: str | None = None,
    n: int | None = 10_000,
    size: int | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Table:
    """Score folders or files of images, or files of features: see `open_source` for what they may be.

    Images are decoded in the background while the network works on those before; they are never all in
    memory.

    Arguments:
        real, fake: folder, .npy or .npz.
        metrics: "frechet", "kernel", "prd", "manifold" or "inception-score", or "fid" and "kid", which are
            "frechet" and "kernel" on the network of the FID and on no other; None for all.
        embedding_name: of the network that turns images into features; by default efficientnet-lite0, or
            the FID's network where "fid" or "kid" is asked for.
        n: take a random part of so many images or features from each; None for all.
        size: bring the images of folders to squares of this side; None wants one size.
        seed: of the random parts and of the metrics.
        device: where to embed.
        progress: told what is being done, how much of it is done, and how much there is.

    Raises:
        OptionError: an unknown metric or embedding.
        DataError: files that cannot be read or have wrong shapes or values, too few examples, images of
            different sizes, images against features, a set in which every image is of one colour, or none
            of the metrics to be had.
    """
    chosen, network_name = _chosen(metrics, embedding_name)
    sources = [
        open_source(path, name, limit=n, size=size, seed=derive_seed(seed, i))
        for i, (name, path) in enumerate((("real", real), ("fake", fake)))
    ]
    first, second = sources
    notes = [
        f"{name}: a random {len(source):,} of {source.total:,}"
        for name, source in zip(("real", "fake"), sources, strict=True)
        if len(source) < source.total
    ]
    if Path(real).samefile(fake):
        notes.append("real and fake are the same files: such scores are what equal sets have")
    if isinstance(first, Features) and isinstance(second, Features):
        if network_name != DEFAULT_EMBEDDING or embedding_name is not None:
            raise OptionError(
                f"embedding: found {network_name!r}, but real and fake are features already, of whatever "
                "network: leave it out, and ask for frechet and kernel in place of fid and kid"
            )
        table = score_features(
            real=first.values, fake=second.values, metrics=chosen, seed=seed, progress=progress
        )
        return _whole(table, notes)
    if isinstance(first, Features) or isinstance(second, Features):
        kinds = ["features" if isinstance(source, Features) else "images" for source in sources]
        raise DataError(f"fake: found {kinds[1]}, but real has {kinds[0]}: wanted the same kind in both")
    network = embedding(network_name)
    reader = _Reader(network, device, progress)
    with quiet():
        for name, source in (("real", first), ("fake", second)):
            reader.peek(name, source)
        features = [reader.features("real", first), reader.features("fake", second)]
    table = score_features(
        real=features[0],
        fake=features[1],
        metrics=chosen,
        embedding=network.protocol,
        fid_names=network.name == FID_NETWORK,
        probabilities=imagenet_probabilities(network, features[1]),
        seed=seed,
        progress=progress,
    )
    return _whole(table, [*notes, *reader.notes])


def score_features(
    *,
    real: Array,
    fake: Array,
    metrics: Sequence[str] = FEATURE_METRICS,
    embedding: str = "features",
    fid_names: bool = False,
    probabilities: Array | None = None,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> Table:
    """All metrics of two sets of features.

    The Fréchet distance is also extrapolated to infinite samples where there are at least 4 d of them.

    Arguments:
        real, fake: features (n, d) and (m, d).
        metrics: "frechet", "kernel", "prd", "manifold" or "inception-score".
        embedding: what the features are, for the protocols' names.
        fid_names: whether they are those of the FID's network.
        probabilities: (m, K), of the fake samples, for the Inception Score; None if there are none.
        seed: of subsets, clusterings and halves.
        progress: as in `score_files`.

    Raises:
        OptionError: an unknown metric.
        DataError: wrong shapes, different d, values that are not finite, or fewer than two examples.
    """
    for name in metrics:
        if name not in FEATURE_METRICS:
            raise unknown_name("metric", name, FEATURE_METRICS)
    x, y = check_pair(real, fake)
    found: dict[str, Score] = {}
    unavailable: dict[str, str] = {}
    curve = None
    names = FID_NAMES if fid_names else {}
    for number, metric in enumerate(metrics):
        progress(f"computing {metric}", number, len(metrics))
        generator = torch.Generator().manual_seed(derive_seed(seed, 2, FEATURE_METRICS.index(metric)))
        name = names.get(metric, metric)
        if min(len(x), len(y)) < _MINIMUM[metric]:
            unavailable[name] = f"it needs at least {_MINIMUM[metric]} examples of each"
        elif metric == "frechet":
            found[name] = frechet_distance(real=x, fake=y, embedding=embedding)
            if min(len(x), len(y)) >= _EXTRAPOLATED_FROM * x.shape[1]:
                found[f"{name}_extrapolated"] = frechet_distance(
                    real=x, fake=y, extrapolate=True, generator=generator, embedding=embedding
                )
        elif metric == "kernel":
            found[name] = kernel_distance(real=x, fake=y, generator=generator, embedding=embedding)
        elif metric == "prd":
            curve = precision_recall_curve(real=x, fake=y, generator=generator, embedding=embedding)
            found |= {"prd_f8": curve.score(8), "prd_f1_8": curve.score(1 / 8)}
        elif metric == "manifold":
            pr, dc = precision_recall_density_coverage(real=x, fake=y, embedding=embedding)
            found["precision"] = Score(pr.precision, pr.precision_error, len(x), len(y), pr.protocol)
            found["recall"] = Score(pr.recall, pr.recall_error, len(x), len(y), pr.protocol)
            found["density"] = Score(dc.density, dc.density_error, len(x), len(y), dc.protocol)
            found["coverage"] = Score(dc.coverage, dc.coverage_error, len(x), len(y), dc.protocol)
        elif probabilities is None:
            unavailable[name] = f"it needs a network with ImageNet's classes, which {embedding} has not"
        else:
            p = torch.as_tensor(probabilities)
            order = torch.randperm(len(p), generator=generator)  # files often lie class by class
            found["inception_score"] = inception_score(probabilities=p[order], embedding=embedding)
    computed = [metric for metric in metrics if names.get(metric, metric) not in unavailable]
    return Table(found, tuple(_too_few(computed, len(x), len(y), x.shape[1])), unavailable, curve)


def imagenet_probabilities(network: Embedding, features: Tensor) -> Tensor | None:
    """What the network says of the class of each image, (n, 1000), by its features; None if it cannot."""
    if isinstance(network, ClassifierEmbedding) and network.classes == _IMAGENET_CLASSES:
        return network.classify(features)
    return None


def _whole(table: Table, notes: Sequence[str]) -> Table:
    """The table with more notes before its own.

    Raises:
        DataError: there is no score in it.
    """
    if not table.scores:
        reasons = (f"no {name}: {why}" for name, why in table.unavailable.items())
        raise DataError("metrics: " + "; ".join(reasons))
    return replace(table, notes=(*notes, *table.notes))


def _chosen(metrics: Sequence[str] | None, embedding_name: str | None) -> tuple[list[str], str]:
    """The metrics by the names of `FEATURE_METRICS`, and the embedding."""
    valid = (*FEATURE_METRICS, *FID_NAMES.values())
    for name in metrics or ():
        if name not in valid:
            raise unknown_name("metric", name, valid)
    of_fid = {short: name for name, short in FID_NAMES.items()}
    asked = [name for name in metrics or () if name in of_fid]
    embedding_name = embedding_name or (FID_NETWORK if asked else DEFAULT_EMBEDDING)
    if asked and embedding_name != FID_NETWORK:
        raise OptionError(
            f"metrics: found {asked[0]!r} with the embedding {embedding_name!r}, wanted {FID_NETWORK!r} "
            f"(or {of_fid[asked[0]]!r}, the same formula on any network)"
        )
    plain = [of_fid.get(name, name) for name in metrics or FEATURE_METRICS]
    return list(dict.fromkeys(plain)), embedding_name


class _Reader:
    """Embeds the two sources one after the other, and watches what goes by."""

    def __init__(self, network: Embedding, device: torch.device | None, progress: Progress) -> None:
        self.notes: list[str] = []
        self._network, self._device, self._progress = network, device, progress
        self._shape: tuple[int, ...] | None = None  # of the real images

    def peek(self, name: str, source: ImageSource) -> None:
        """Check the size of the first image, so that nothing is embedded in vain."""
        for images in source.batches(1):
            self._check_shape(name, tuple(images.shape[1:]))
            return

    def features(self, name: str, source: ImageSource) -> Tensor:
        """Features of all images of a source, (n, d)."""
        self._seen = self._flat = 0
        features = self._network.features(self._watched(name, source), batch_size=_BATCH, device=self._device)
        if self._flat == self._seen:
            raise DataError(
                f"{name}: found a single colour in each of the {self._seen:,} images of {source.path!r}, "
                "wanted pictures"
            )
        if self._flat:
            self.notes.append(f"{name}: {self._flat:,} of {self._seen:,} images have a single colour")
        for file, reason in sorted(source.left_out.items())[:3]:
            self.notes.append(f"{name}: left out {file!r}: it {reason}")
        if len(source.left_out) > 3:
            self.notes.append(f"{name}: left out {len(source.left_out) - 3:,} more files")
        return features

    def _watched(self, name: str, source: ImageSource) -> Iterator[Tensor]:
        for images in source.batches(_BATCH):
            self._check_shape(name, tuple(images.shape[1:]))
            self._seen += len(images)
            pixels = images.flatten(1)
            self._flat += int((pixels.amax(dim=1) == pixels.amin(dim=1)).sum())
            yield images
            self._progress(f"embedding {name}", self._seen, len(source))

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self._shape = self._shape or shape
        same = shape if self._network.name == "pixels" else (self._shape[0], *shape[1:])
        if same != self._shape:
            found, wanted = ("×".join(map(str, s[::-1])) for s in (shape, self._shape))
            raise DataError(
                f"{name}: found images of {found}, but the first real ones are {wanted} (width×height×"
                "channels): bring both to one size in the same way, with size for folders"
            )


def _too_few(metrics: Sequence[str], n_real: int, n_fake: int, d: int) -> Iterator[str]:
    """What small samples do to each metric, in words."""
    n = min(n_real, n_fake)
    if "frechet" in metrics and n <= d:
        yield (
            f"frechet: {n:,} examples cannot fill a covariance of {d:,} dimensions, most of the value may be "
            f"bias: take more than {d:,}, better 10,000, and compare values of the same n only"
        )
    elif "frechet" in metrics and n < 10_000:
        yield (
            f"frechet: its bias at {n:,} examples is not small, published values take 10,000 or more: "
            "compare values of the same n only"
        )
    if "kernel" in metrics and n < 2000:
        yield f"kernel: unbiased, but noisy at {n:,} examples, take 2,000 or more: mind the error bar"
    if "prd" in metrics and n < 1000:
        yield f"prd: {n:,} examples leave few in each of 20 clusters, take 1,000 or more"
    if "manifold" in metrics and n < 2000:
        yield (
            f"precision, recall, density, coverage: the balls of {n:,} examples are wide, take 2,000 or more "
            "and compare values of the same n only"
        )
    if "inception-score" in metrics and n_fake < 5000:
        yield f"inception-score: too low at {n_fake:,} samples, which are cut in 10 parts: take 5,000 or more"
    if n_real != n_fake and {"frechet", "manifold"} & set(metrics):
        yield f"the sets differ in size ({n_real:,}, {n_fake:,}): compare values of these two sizes only"
