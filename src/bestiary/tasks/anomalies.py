"""How odd examples are to a model, and which of many are the oddest.

Shapes: B or N examples, C channels, H height, W width.
"""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bestiary.config import check_count
from bestiary.data.specs import ImageSpec
from bestiary.data.splits import Batch
from bestiary.errors import BestiaryError, DataError, OptionError, unknown_name
from bestiary.metrics import Score, auroc
from bestiary.models.base import Critic, Encoder, Likelihood, LikelihoodBound, Model
from bestiary.models.inputs import condition_vectors
from bestiary.runs.pictures import image_grid

# What each score is; the first that a model has is the one that "auto" takes.
ANOMALY_SCORES = {
    "likelihood": "−log p(x), nats",
    "bound": "−ELBO, nats",
    "reconstruction": "squared error of the reconstruction",
    "critic": "the critic's output, negative",
    "complexity": "bits of the model less bits as PNG",
}

_CHUNK = 250
_COLUMNS = 8
_GAP = 12  # pixels between the oddest and the most ordinary

_Measure = Callable[[Model, Tensor, Tensor | None, torch.Generator | None], Tensor]


def anomaly_scores(
    model: Model,
    x: Tensor,
    *,
    score: str = "auto",
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""How odd each example is to a model: higher is odder. Float64 on the CPU, shape (B,).

    "likelihood" is −log p(x), nats, and "bound" −ELBO(x), nats, with one code an example;
    "reconstruction" is ‖x − x̂‖², and "critic" what takes the example for real, negative.

    Likelihoods tell examples apart that come from the data which the model was trained on, and a few odd ones
    among them. **They fail across data sets**: of two kinds of images the simpler has the higher likelihood,
    also where the model was trained on the other, so that MNIST is less odd than Fashion-MNIST to a model of
    Fashion-MNIST (Nalisnick et al., 2019; Ren et al., 2019). What helps is to subtract what any image of the
    same complexity costs: "complexity" is −log₂ p(x) − L(x), bits, where L is the length of the image as PNG
    (Serrà et al., 2020, eq. 3) and the ELBO stands for log p where there is no exact one; or, from the score
    of one model, that of another which was trained on the same images with noise (Ren et al., 2019).

    References:
        *Do Deep Generative Models Know What They Don't Know?* (Nalisnick et al., 2019), arXiv 1810.09136;
        *Likelihood Ratios for Out-of-Distribution Detection* (Ren et al., 2019), arXiv 1906.02845;
        *Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models* (Serrà
        et al., 2020), arXiv 1909.11480.

    Arguments:
        model: any model with one of these scores: see `anomaly_score_names`.
        x: examples (B, \*spec.shape), images in [0, 1].
        score: which; "auto" takes the first of likelihood, bound, reconstruction and critic that the model
            has.
        condition: one row per example where the spec has a condition, else None.
        generator: of the codes of "bound".

    Raises:
        OptionError: a score that does not exist, or that the model does not have.
        BestiaryError: a model that has none.
        DataError: examples or conditions of another shape or kind than the spec's.
    """
    measure = _MEASURES[choose_anomaly_score(model, score)]
    if x.shape[1:] != model.spec.shape:
        wanted = ", ".join(map(str, model.spec.shape))
        raise DataError(f"x: found shape {tuple(x.shape)}, wanted (B, {wanted})")
    condition_vectors(model.spec, condition, len(x))
    found = []
    with model.evaluation():
        for rows in torch.arange(len(x)).split(_CHUNK):
            part = None if condition is None else condition[rows].to(model.device)
            found.append(measure(model, x[rows].to(model.device), part, generator).cpu().double())
    return torch.cat(found)


def anomaly_score_names(model: Model) -> tuple[str, ...]:
    """The scores that a model has, of `ANOMALY_SCORES` and in their order."""
    return tuple(name for name in ANOMALY_SCORES if _has(model, name))


def choose_anomaly_score(model: Model, score: str = "auto") -> str:
    """The name of a score that the model has: the one that is asked for, or the first.

    Raises:
        OptionError: a score that does not exist, or that the model does not have.
        BestiaryError: a model that has none.
    """
    if score not in ("auto", *ANOMALY_SCORES):
        raise unknown_name("score", score, ["auto", *ANOMALY_SCORES])
    names = anomaly_score_names(model)
    if not names:
        raise BestiaryError(
            f"model: found {type(model).__name__}, wanted a model with a likelihood or a bound of"
            " it, an encoder or a critic"
        )
    if score not in ("auto", *names):
        raise OptionError(f"score: {type(model).__name__} has no {score}, wanted one of {', '.join(names)}")
    return names[0] if score == "auto" else score


def png_bits(x: Tensor, *, levels: int = 256) -> Tensor:
    """Length of images as PNG files, each on its own, in bits: float64, shape (B,).

    Arguments:
        x: images in [0, 1], shape (B, C, H, W) with C = 1 or 3.
        levels: L of the images: grey ones of two levels take a bit a pixel, others 8 bits a number.
    """
    stored = (x.detach().cpu() * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return torch.tensor([8.0 * _png_bytes(image, levels) for image in stored], dtype=torch.float64)


@dataclass(frozen=True)
class RankedAnomalies:
    """Scores of many examples, and both ends of them.

    Attributes:
        scores: of all, higher is odder, float64, (N,).
        oddest: numbers of the oddest examples, the oddest first, (n,).
        ordinary: numbers of the most ordinary ones, the most ordinary first, (n,).
        oddest_x, ordinary_x: these examples, (n, *spec.shape).
    """

    scores: Tensor
    oddest: Tensor
    ordinary: Tensor
    oddest_x: Tensor
    ordinary_x: Tensor


def rank_anomalies(
    model: Model,
    batches: Iterable[Batch],
    *,
    n: int,
    score: str = "auto",
    generator: torch.Generator | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> RankedAnomalies:
    """Score any number of examples, of which no more than a batch and both ends are kept in memory.

    Arguments:
        model: see `anomaly_scores`.
        batches: the examples, with their conditions.
        n: of the oddest and of the most ordinary, at most.
        score, generator: see `anomaly_scores`.
        progress: told how many examples are scored.

    Raises:
        OptionError, BestiaryError, DataError: see `anomaly_scores`; no examples.
    """
    check_count("n", n)
    scores = torch.zeros(0, dtype=torch.float64)
    parts, kept = [], torch.zeros(0, dtype=torch.int64)
    x = torch.zeros(0)
    done = 0
    for batch in batches:
        new = anomaly_scores(model, batch.x, score=score, condition=batch.condition, generator=generator)
        parts.append(new)
        x = torch.cat([x, batch.x]) if done else batch.x
        scores, kept = torch.cat([scores, new]), torch.cat([kept, torch.arange(done, done + len(new))])
        order = scores.argsort(stable=True)
        ends = torch.cat([order[:n], order[n:][-n:]])  # from the most ordinary to the oddest
        scores, kept, x = scores[ends], kept[ends], x[ends]
        done += len(new)
        progress(done)
    if not done:
        raise DataError("data: found no examples, wanted at least one")
    return RankedAnomalies(torch.cat(parts), kept.flip(0)[:n], kept[:n], x.flip(0)[:n], x[:n])


def count_as_odd(scores: Tensor, reference: Tensor) -> Tensor:
    """How many of the scores `reference` (n,) are at least as high as each of `scores` (B,): int64, (B,).

    With a reference that the model was not trained on, the count over n is the share of ordinary examples
    that a threshold at this score would call odd: small where the example is odder than they are.
    """
    return len(reference) - torch.searchsorted(reference.sort().values, scores)


def class_aurocs(
    *, normal: Tensor, anomalous: Tensor, labels: Tensor | None = None, classes: Sequence[str] = ()
) -> dict[str, Score]:
    """AUROC of all anomalies against the normal examples, under the name "all", and of each class of them.

    Arguments:
        normal, anomalous: scores, higher for what is odder, (n,) and (m,).
        labels: of the anomalies, int64, (m,), or None.
        classes: names of the labels.

    Raises:
        DataError: no scores, or NaN among them.
    """
    found = {"all": auroc(normal=normal, anomalous=anomalous)}
    if labels is not None:
        for label, name in enumerate(classes):
            if (labels == label).any():
                found[name] = auroc(normal=normal, anomalous=anomalous[labels == label])
    return found


def anomaly_picture(ranked: RankedAnomalies) -> Image.Image:
    """The oddest images, and below a gap the most ordinary ones, both from the upper left on."""
    parts = [image_grid(x, columns=min(_COLUMNS, len(x))) for x in (ranked.oddest_x, ranked.ordinary_x)]
    width, height = parts[0].width, parts[0].height
    picture = Image.new(parts[0].mode, (width, 2 * height + _GAP), "white")
    for i, part in enumerate(parts):
        picture.paste(part, (0, i * (height + _GAP)))
    return picture


def _has(model: Model, name: str) -> bool:
    if name == "complexity":
        measured = isinstance(model, Likelihood | LikelihoodBound) and isinstance(model.spec, ImageSpec)
        return measured and model.treatment in ("mass", "dequantised")
    kinds = {"likelihood": Likelihood, "bound": LikelihoodBound, "reconstruction": Encoder, "critic": Critic}
    return isinstance(model, kinds[name])


def _likelihood(
    model: Model, x: Tensor, condition: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    assert isinstance(model, Likelihood)
    return -model.log_prob(x, condition=condition)


def _bound(model: Model, x: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
    assert isinstance(model, LikelihoodBound)
    return -model.elbo(x, condition=condition, generator=generator)


def _reconstruction(
    model: Model, x: Tensor, condition: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    assert isinstance(model, Encoder)
    return (x - model.reconstruct(x, condition=condition)).square().flatten(1).sum(dim=1)


def _critic(model: Model, x: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
    assert isinstance(model, Critic)
    return -model.score(x, condition=condition)


def _complexity(
    model: Model, x: Tensor, condition: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    assert isinstance(model.spec, ImageSpec)
    nats = (_likelihood if isinstance(model, Likelihood) else _bound)(model, x, condition, generator)
    return nats.cpu().double() / math.log(2) - png_bits(x, levels=model.spec.levels)


_MEASURES: dict[str, _Measure] = {
    "likelihood": _likelihood,
    "bound": _bound,
    "reconstruction": _reconstruction,
    "critic": _critic,
    "complexity": _complexity,
}


def _png_bytes(image: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", levels: int) -> int:
    """Of an image (H, W, C)."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    if levels == 2 and image.shape[2] == 1:
        picture = picture.convert("1")
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.tell()
