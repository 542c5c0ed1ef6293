"""What an embedding is: the network, or the plain flattening, that turns images into features.

Metrics know nothing of networks. Images go through an embedding once, and its features, shape (n, d),
are what the metrics compare; the embedding's `protocol` belongs in the name of every score.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bestiary.allocator import keep_freed_memory
from bestiary.errors import DataError

Images = Tensor | np.ndarray[Any, Any] | Iterable[Tensor]


class Embedding(ABC):
    """Turns images into feature vectors.

    Attributes:
        name: short name, as asked for ("efficientnet-lite0").
        protocol: full name with everything that changes the numbers ("efficientnet-lite0 96px bilinear").
    """

    name: str
    protocol: str

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Features (B, d) of one batch of images, float (B, C, H, W) in [0, 1]."""

    def features(self, images: Images, *, batch_size: int = 50, device: torch.device | None = None) -> Tensor:
        """Features of all images, float32, shape (n, d), on the CPU; one pass, no gradients.

        Arguments:
            images: float in [0, 1], shape (n, C, H, W) with C = 1 or 3 and any size, or an iterable of
                such batches, so that images never have to be in memory at once. Nothing is rescaled.
            batch_size: images that go through at a time; changes memory and speed only.
            device: where to compute; None for where the embedding is.

        Raises:
            DataError: images of another shape, type or range, or none at all.
        """
        keep_freed_memory()
        with torch.no_grad():
            parts = [
                self.embed(part if device is None else part.to(device)).float().cpu()
                for batch in _batches(images)
                for part in torch.split(check_images("images", batch).float(), batch_size)
            ]
        if not parts:
            raise DataError("images: found none, wanted at least one")
        return torch.cat(parts)

    def identity(self) -> str | None:
        """What determines the features of given images, for `cached_features`; None for "do not cache"."""
        return None


class NetworkEmbedding(Embedding):
    """An embedding by one of the package's own networks.

    Arguments:
        name: short name.
        protocol: full name.
        network: maps images (B, C, H, W) to features (B, d).
    """

    def __init__(self, name: str, protocol: str, *, network: nn.Module) -> None:
        self.name = name
        self.protocol = protocol
        self.network = network.eval()

    def embed(self, images: Tensor) -> Tensor:
        """See `Embedding.embed`; the network moves to where the images are."""
        features: Tensor = self.network.to(images.device)(images)
        return features

    def identity(self) -> str | None:
        """The protocol and a hash of the weights."""
        return f"{self.protocol} {weights_hash(self.network)}"


class ClassifierEmbedding(NetworkEmbedding):
    """An embedding by a classifier: its features are the inputs of its last layer.

    Arguments:
        name: short name.
        protocol: full name.
        network: maps images (B, C, H, W) to features (B, d).
        head: maps features (B, d) to logits (B, K).
    """

    def __init__(self, name: str, protocol: str, *, network: nn.Module, head: nn.Linear) -> None:
        super().__init__(name, protocol, network=network)
        self.head = head.eval()

    @property
    def classes(self) -> int:
        """K, the number of classes that the network was trained on."""
        return self.head.out_features

    def classify(self, features: Tensor) -> Tensor:
        """Class probabilities (n, K), float64, of features (n, d) from `features`: no second pass."""
        with torch.no_grad():
            logits: Tensor = self.head.to(features.device)(features)
        return logits.double().softmax(dim=1)

    def probabilities(
        self, images: Images, *, batch_size: int = 50, device: torch.device | None = None
    ) -> Tensor:
        """Class probabilities (n, K), float64, of images as for `features`."""
        return self.classify(self.features(images, batch_size=batch_size, device=device))


class Pixels(Embedding):
    """The images themselves, flattened: d = C·H·W."""

    name = "pixels"
    protocol = "pixels"

    def embed(self, images: Tensor) -> Tensor:
        """See `Embedding.embed`."""
        return images.flatten(start_dim=1)


def weights_hash(network: nn.Module) -> str:
    """SHA-256 of a network's parameters and buffers: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in chain(network.named_parameters(), network.named_buffers()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _batches(images: Images) -> Iterator[Tensor]:
    if isinstance(images, (Tensor, np.ndarray)):
        yield torch.as_tensor(images)
    else:
        yield from map(torch.as_tensor, images)


def check_images(name: str, images: Tensor) -> Tensor:
    """The images, float, shape (n, C, H, W) with C = 1 or 3; nothing is rescaled.

    Raises:
        DataError: another shape, type or range.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise DataError(f"{name}: found shape {tuple(images.shape)}, wanted (n, C, H, W) with C = 1 or 3")
    if not images.is_floating_point():
        raise DataError(f"{name}: found {images.dtype}, wanted floats in [0, 1]: divide by the highest level")
    if len(images) and not (images.amin() >= -1e-4 and images.amax() <= 1 + 1e-4):  # a NaN fails both
        low, high = images.amin().item(), images.amax().item()
        raise DataError(f"{name}: found values from {low:.3g} to {high:.3g}, wanted [0, 1]: rescale them")
    return images
