"""How accessible what a model knows is: activations as features, and a linear probe of them.

Shapes: B batch, n examples, d features.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.errors import DataError, OptionError, unknown_name
from bestiary.metrics.features import Array, check_features
from bestiary.metrics.results import Score
from bestiary.models.autoregressive.base import SCORE_CHUNK, Autoregressive

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C, the inverse of the penalty on the squared weights
FOLDS = 5


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
        layers: names of submodules as in `model.named_modules()`, whose outputs are maps (B, channels,
            height, width) or tuples of such maps, which are put side by side.
        x: images in [0, 1], shape (B, C, H, W); any number, taken in chunks.
        condition: one row per image where the spec has a condition, else None.
        cells: the averages are over cells × cells equal parts of the image: 1 for the whole.

    Returns:
        a tensor (B, d) for each name.

    Raises:
        OptionError: a name that is no submodule.
        DataError: a layer whose outputs are no maps; images or conditions as the model wants them.
    """
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules:
            raise unknown_name("layer", name, modules)
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    hooks = [modules[name].register_forward_hook(partial(_keep, name, cells, found[name])) for name in layers]
    try:
        with model.evaluation():
            for rows in torch.arange(len(x), device=x.device).split(SCORE_CHUNK):
                model.logits(x[rows], None if condition is None else condition[rows])
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
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = _examples("train", train_features, train_labels)
    x_test, y_test = _examples("test", test_features, test_labels)
    if x.shape[1] != x_test.shape[1]:
        raise DataError(
            f"test_features: found {x_test.shape[1]} features, wanted {x.shape[1]} as in train_features"
        )
    if labels is not None:
        chosen = _few(y, labels, np.random.default_rng(seed))
        x, y = x[chosen], y[chosen]
    fewest = int(np.unique(y, return_counts=True)[1].min())
    if len(np.unique(y)) < 2 or fewest < 2:
        raise DataError(
            f"train_labels: found {len(np.unique(y))} classes, the smallest of {fewest} examples, wanted at"
            " least two classes of two examples"
        )
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": STRENGTHS},
        cv=StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed),
    )
    search.fit(x, y)
    accuracy = float(search.score(x_test, y_test))
    n = len(y_test)
    chosen_strength = search.best_params_["logisticregression__C"]
    protocol = f"linear probe[{name}, d={x.shape[1]}, labels={len(y)}, C={chosen_strength:g}, n={n}]"
    return Score(accuracy, math.sqrt(accuracy * (1 - accuracy) / n), n, 0, protocol)


def _keep(name: str, cells: int, kept: list[Tensor], _: nn.Module, __: Any, output: Any) -> None:
    parts = output if isinstance(output, tuple) else (output,)
    if not all(isinstance(part, Tensor) and part.ndim == 4 for part in parts):
        raise DataError(
            f"layers: {name} gives no maps (B, channels, height, width), wanted a layer that does"
        )
    kept.append(torch.cat([F.adaptive_avg_pool2d(part, cells).flatten(1) for part in parts], dim=1))


def _examples(kind: str, features: Array, labels: Array) -> tuple[Any, Any]:
    x = check_features(f"{kind}_features", features).numpy()
    y = torch.as_tensor(labels).detach().cpu()
    if y.shape != (len(x),) or y.is_floating_point():
        raise DataError(
            f"{kind}_labels: found {y.dtype} of shape {tuple(y.shape)}, wanted whole numbers of shape"
            f" ({len(x)},), one for each row of features"
        )
    return x, y.numpy()


def _few(y: Any, labels: int, draw: np.random.Generator) -> Any:
    """Indices of so many examples, the classes in turn, each class in random order."""
    classes = np.unique(y)
    if not 2 * len(classes) <= labels <= len(y):
        raise OptionError(
            f"labels: found {labels}, wanted from two for each of the {len(classes)} classes to {len(y)}"
        )
    order = draw.permutation(len(y))
    turn = np.empty(len(y), dtype=np.int64)  # which of its class an example is
    for label in classes:
        own = order[y[order] == label]
        turn[own] = np.arange(len(own))
    return order[np.argsort(turn[order], kind="stable")][:labels]
