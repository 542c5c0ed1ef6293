"""Embeddings: what turns images into the features that metrics compare."""

from bestiary.data.splits import Data
from bestiary.errors import DataError, unknown_name
from bestiary.metrics.embeddings.base import ClassifierEmbedding, Embedding, Images, Pixels
from bestiary.metrics.embeddings.classifier import trained_classifier
from bestiary.metrics.embeddings.efficientnet import efficientnet_lite0

__all__ = [
    "ClassifierEmbedding",
    "Embedding",
    "Images",
    "efficientnet_lite0",
    "embedding",
    "trained_classifier",
]

NAMES = ("classifier", "efficientnet-lite0", "pixels")


def embedding(name: str, *, data: Data | None = None) -> Embedding:
    """The embedding of that name: one of `NAMES`.

    Arguments:
        name: "efficientnet-lite0" (the default for images), "classifier" or "pixels".
        data: the data set whose labels "classifier" is trained on; the others need none.

    Raises:
        OptionError: an unknown name.
        DataError: weights that are not installed, or a classifier without labelled data.
    """
    if name == "efficientnet-lite0":
        return efficientnet_lite0()
    if name == "pixels":
        return Pixels()
    if name != "classifier":
        raise unknown_name("embedding", name, NAMES)
    if data is None or data.classes is None:
        raise DataError("embedding: 'classifier' needs data with class labels: use 'efficientnet-lite0'")
    classes = len(data.classes)
    return trained_classifier(data.train, data.validation, classes=classes, fingerprint=data.fingerprint)
