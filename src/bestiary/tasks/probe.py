"""How accessible what a model knows is: activations as features, and linear probes of these and of codes.

Shapes: B batch, n examples, d features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.data.specs import ImageSpec
from bestiary.errors import DataError, OptionError, unknown_name
from bestiary.metrics.features import Array, check_features
from bestiary.metrics.results import Score
from bestiary.models.autoregressive.base import SCORE_CHUNK, Autoregressive
from bestiary.networks.lstm_layer import LSTMLayer
from bestiary.tasks.likelihood_maps import check_autoregressive

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C, the inverse of the penalty on the squared weights
FOLDS = 5


@dataclass(frozen=True)
class FewLabels(Score):
    """The accuracy of a probe that saw few labels: `value`, its mean over several choices of them.

    Attributes:
        per_class: labels of each class, or None for all there are.
        accuracies: of each choice of labels.
        deviation: the standard deviation of these; None where there is one choice alone.
    """

    per_class: int | None
    accuracies: tuple[float, ...]
    deviation: float | None


def pooled_activations(
    model: Autoregressive,
    layers: Sequence[str],
    x: Tensor,
    condition: Tensor | None = None,
    *,
    cells: int = 1,
) -> dict[str, Tensor]:
    """Activations of named layers while a model predicts images, averaged over space: features by layer.

    References:
        *Generative Pretraining from Pixels* (Chen et al., 2020), §2.3: the average over all positions, by
        layer.

    Arguments:
        model: any autoregressive model of images.
        layers: names of submodules as in `model.named_modules()`, run once a prediction, whose outputs are
            maps (B, channels, height, width), however they are laid out, or tuples of such maps, which are
            put side by side.
        x: images in [0, 1], shape (B, C, H, W); any number, taken in chunks.
        condition: one row per image where the spec has a condition, else None.
        cells: the averages are over cells × cells equal parts of the image: 1 for the whole.

    Returns:
        a tensor (B, d) for each name.

    Raises:
        OptionError: a name that is no submodule.
        DataError: a layer whose outputs are no maps; images or conditions as the model wants them.
    """
    check_autoregressive(model)
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules:
            raise unknown_name("layer", name, modules)
    outputs: dict[str, list[Any]] = {name: [] for name in layers}
    hooks = [
        modules[name].register_forward_hook(lambda _, __, output, kept=outputs[name]: kept.append(output))
        for name in layers
    ]
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    try:
        with model.evaluation():
            for rows in torch.arange(len(x), device=x.device).split(SCORE_CHUNK):
                model.logits(x[rows], None if condition is None else condition[rows])
                for name, kept in outputs.items():
                    maps = _maps(name, modules[name], kept, len(rows), model.spec)
                    pooled = [F.adaptive_avg_pool2d(part, cells).flatten(1) for part in maps]
                    found[name].append(torch.cat(pooled, dim=1))
                    kept.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


def linear_probe(
    train_features: Array,
    train_labels: Array,
    test_features: Array,
    test_labels: Array,
    *,
    labels: int | None = None,
    seed: int = 0,
    name: str = "features",
) -> Score:
    """Accuracy of a linear classifier of fixed features: how accessible the classes are in them.

    Logistic regression with an L2 penalty on features that are standardised by the training examples. The
    strength of the penalty, of `STRENGTHS`, is the one with the best accuracy in cross-validation within the
    training examples, 5-fold or, with fewer labels of a class, as many folds as there are of them; the
    classifier is then fitted on all of them, and the test examples are looked at once.

    Arguments:
        train_features, train_labels: features (n, d) and class labels, whole numbers (n,).
        test_features, test_labels: the same of other examples.
        labels: how many labels to use, drawn from the training examples as evenly over the classes as
            possible; None for all.
        seed: of the choice of labels and of the folds.
        name: of the features, for the protocol.

    Returns:
        the accuracy, from 0 to 1, with its binomial standard error √(a(1 − a)/n).

    Raises:
        DataError: features that are not finite or of different d, labels of another number or kind, or
            fewer than two training examples of any class.
        OptionError: fewer `labels` than two for each class, or more than there are.
    """
    from sklearn.preprocessing import StandardScaler

    x, y, x_test, y_test = _checked(train_features, train_labels, test_features, test_labels)
    if labels is not None:
        classes = len(np.unique(y))
        if not 2 * classes <= labels <= len(y):
            raise OptionError(
                f"labels: found {labels}, wanted from two for each of the {classes} classes to {len(y)}"
            )
        chosen = _few(y, labels, np.random.default_rng(seed))
        x, y = x[chosen], y[chosen]
    _check_classes(y, 2)
    classifier, strength = _fitted(x, y, seed, StandardScaler())
    accuracy = float(classifier.score(x_test, y_test))
    n = len(y_test)
    protocol = f"linear probe[{name}, d={x.shape[1]}, labels={len(y)}, C={strength:g}, n={n}]"
    return Score(accuracy, math.sqrt(accuracy * (1 - accuracy) / n), n, 0, protocol)


def few_label_accuracy(
    train_codes: Array,
    train_labels: Array,
    test_codes: Array,
    test_labels: Array,
    *,
    per_class: Sequence[int | None] = (1, 10, 100, None),
    draws: int = 10,
    seed: int = 0,
    name: str = "codes",
) -> list[FewLabels]:
    """Accuracy of linear classifiers of codes that are told the classes of few examples.

    As `linear_probe`, but the codes are scaled by one number, the deviation of all training codes over all
    their dimensions, which needs no labels: a dimension that a model leaves almost empty stays so, whereas
    standardised by a few examples it would be noise as loud as the others. With one label of a class there
    is nothing to cross-validate, and C is 1.

    Arguments:
        train_codes, train_labels: codes (n, Z), as of `codes_of`, and class labels, whole numbers (n,).
        test_codes, test_labels: the same of other examples.
        per_class: how many labels of each class; None for all there are.
        draws: how often few labels are drawn, each time without those of another time in mind.
        seed: of these choices and of the folds.
        name: of the codes, for the protocol.

    Returns:
        for each of `per_class` the mean accuracy, from 0 to 1, with its standard error
        √(s²/draws + a(1 − a)/n) from the choice of labels and from n test examples.

    Raises:
        DataError: codes that are not finite or of different Z, labels of another number or kind, or fewer
            than two classes.
        OptionError: fewer labels than one, more than the smallest class has, or fewer draws than two.
    """
    x, y, x_test, y_test = _checked(train_codes, train_labels, test_codes, test_labels, kind="codes")
    _check_classes(y, 1)
    if draws < 2:
        raise OptionError(f"draws: found {draws}, wanted at least 2")
    fewest = int(np.unique(y, return_counts=True)[1].min())
    for k in per_class:
        if k is not None and not 1 <= k <= fewest:
            raise OptionError(
                f"per_class: found {k}, wanted from 1 to {fewest}, the examples of the smallest class"
            )
    scale = math.sqrt(float(x.var(axis=0).mean())) or 1.0
    x, x_test = x / scale, x_test / scale
    found = []
    for k in per_class:
        if k is None:
            accuracies = [float(_fitted(x, y, seed)[0].score(x_test, y_test))]
        else:
            accuracies = []
            for draw in range(draws):
                chosen = _few(y, k * len(np.unique(y)), np.random.default_rng([seed, k, draw]))
                classifier, _ = _fitted(x[chosen], y[chosen], seed)
                accuracies.append(float(classifier.score(x_test, y_test)))
        found.append(_few_labels(accuracies, k, f"{name}, d={x.shape[1]}", len(y_test)))
    return found


def _few_labels(accuracies: list[float], per_class: int | None, name: str, n: int) -> FewLabels:
    mean = float(np.mean(accuracies))
    variance = float(np.var(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0
    error = math.sqrt(variance / len(accuracies) + mean * (1 - mean) / n)
    labels = "all labels" if per_class is None else f"{per_class} of a class, {len(accuracies)} draws"
    return FewLabels(
        value=mean,
        error=error,
        n_real=n,
        n_fake=0,
        protocol=f"few labels[{name}, {labels}, n={n}]",
        per_class=per_class,
        accuracies=tuple(accuracies),
        deviation=math.sqrt(variance) if len(accuracies) > 1 else None,
    )


def _fitted(x: Any, y: Any, seed: int, *steps: Any) -> tuple[Any, float]:
    """A logistic regression after some steps, and its C, chosen by cross-validation if that can be."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(*steps, LogisticRegression(C=STRENGTHS[-1], max_iter=2000))
    fewest = int(np.unique(y, return_counts=True)[1].min())
    if fewest < 2:
        return pipeline.fit(x, y), STRENGTHS[-1]
    search = GridSearchCV(
        pipeline,
        {"logisticregression__C": STRENGTHS},
        cv=StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed),
    )
    search.fit(x, y)
    return search, search.best_params_["logisticregression__C"]


def _maps(name: str, layer: nn.Module, calls: list[Any], batch: int, spec: ImageSpec) -> list[Tensor]:
    """The one output of a layer as maps (B, channels, height, width), however its network lays them out."""
    parts = calls[0] if len(calls) == 1 else ()
    found = []
    for part in parts if isinstance(parts, tuple) else (parts,):
        shape = tuple(part.shape) if isinstance(part, Tensor) else ()
        if isinstance(layer, LSTMLayer):  # (h, H, W, B), and blank columns to the right
            found.append(part[:, :, : part.shape[2] - layer.blank].permute(3, 0, 1, 2))
        elif len(shape) == 4 and shape[0] == batch:
            found.append(part)
        elif len(shape) == 3 and shape[0] * shape[1] == spec.height * spec.width * batch:  # (H·W, B, c)
            found.append(part.reshape(spec.height, spec.width, batch, -1).permute(2, 3, 0, 1))
        else:
            found = []
            break
    if not found:
        raise DataError(
            f"layers: {name} gives no maps (B, channels, height, width) once a prediction, wanted a layer"
            " that does"
        )
    return found


def _checked(
    train: Array, train_labels: Array, test: Array, test_labels: Array, *, kind: str = "features"
) -> tuple[Any, Any, Any, Any]:
    """Both sets of features and labels, checked, with the same d."""
    x, y = _examples("train", train, train_labels, kind)
    x_test, y_test = _examples("test", test, test_labels, kind)
    if x.shape[1] != x_test.shape[1]:
        raise DataError(
            f"test_{kind}: found {x_test.shape[1]} features, wanted {x.shape[1]} as in train_{kind}"
        )
    return x, y, x_test, y_test


def _check_classes(y: Any, smallest: int) -> None:
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2 or counts.min() < smallest:
        raise DataError(
            f"train_labels: found {len(classes)} classes, the smallest of {counts.min()} examples, wanted at"
            f" least two classes of {smallest} example{'s' * (smallest > 1)}"
        )


def _examples(side: str, features: Array, labels: Array, kind: str) -> tuple[Any, Any]:
    x = check_features(f"{side}_{kind}", features).numpy()
    y = torch.as_tensor(labels).detach().cpu()
    if y.shape != (len(x),) or y.is_floating_point():
        raise DataError(
            f"{side}_labels: found {y.dtype} of shape {tuple(y.shape)}, wanted whole numbers of shape"
            f" ({len(x)},), one for each row of features"
        )
    return x, y.numpy()


def _few(y: Any, labels: int, draw: np.random.Generator) -> Any:
    """Indices of so many examples, the classes in turn, each class in random order."""
    order = draw.permutation(len(y))
    turn = np.empty(len(y), dtype=np.int64)  # which of its class an example is
    for label in np.unique(y):
        own = order[y[order] == label]
        turn[own] = np.arange(len(own))
    return order[np.argsort(turn[order], kind="stable")][:labels]
