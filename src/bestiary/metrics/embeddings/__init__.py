"""Embeddings: what turns images into the features that metrics compare."""

from collections.abc import Callable

from torch import nn

from bestiary.data.splits import Data
from bestiary.errors import DataError, unknown_name
from bestiary.metrics.embeddings.base import (
    ClassifierEmbedding,
    Embedding,
    Images,
    NetworkEmbedding,
    Pixels,
)
from bestiary.metrics.embeddings.cache import cached_features
from bestiary.metrics.embeddings.classifier import trained_classifier
from bestiary.metrics.embeddings.efficientnet import efficientnet_lite0
from bestiary.metrics.embeddings.inception import fid_inception
from bestiary.metrics.embeddings.mobilenet import mobilenet_v2
from bestiary.metrics.embeddings.own import OwnEmbedding
from bestiary.metrics.embeddings.trunks import vgg16_conv5_pool

__all__ = [
    "NAMES",
    "ClassifierEmbedding",
    "Embedding",
    "Images",
    "NetworkEmbedding",
    "OwnEmbedding",
    "cached_features",
    "efficientnet_lite0",
    "embedding",
    "fid_inception",
    "mobilenet_v2",
    "trained_classifier",
    "vgg16_conv5_pool",
]

_FIXED: dict[str, Callable[[], Embedding]] = {
    "efficientnet-lite0": efficientnet_lite0,
    "inception-2015-12-05": fid_inception,
    "mobilenet-v2": mobilenet_v2,
    "pixels": Pixels,
    "vgg16-conv5-pool": vgg16_conv5_pool,
}
NAMES = tuple(sorted([*_FIXED, "classifier"]))


def embedding(network: str | nn.Module, *, data: Data | None = None) -> Embedding:
    """The embedding of that name, one of `NAMES`, or the one that your own network makes.

    Arguments:
        network: "efficientnet-lite0" (the default for images), "inception-2015-12-05" (the FID's),
            "mobilenet-v2", "vgg16-conv5-pool", "classifier" or "pixels"; or a module from images
            (B, C, H, W) in [0, 1], as they are, to features (B, d): see `OwnEmbedding`.
        data: the data set whose labels "classifier" is trained on; the others need none.

    Raises:
        OptionError: an unknown name.
        DataError: weights that are not installed, or a classifier without labelled data.
    """
    if isinstance(network, nn.Module):
        return OwnEmbedding(network)
    if network in _FIXED:
        return _FIXED[network]()
    if network != "classifier":
        raise unknown_name("embedding", network, NAMES)
    if data is None or data.classes is None:
        raise DataError("embedding: 'classifier' needs data with class labels: use 'efficientnet-lite0'")
    classes = len(data.classes)
    return trained_classifier(data.train, data.validation, classes=classes, fingerprint=data.fingerprint)
