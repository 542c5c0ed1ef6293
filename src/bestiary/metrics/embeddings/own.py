"""A user's own network as an embedding."""

import copy

from torch import Tensor, nn

from bestiary.errors import DataError
from bestiary.metrics.embeddings.base import NetworkEmbedding, weights_hash


class OwnEmbedding(NetworkEmbedding):
    """Any module that maps images to features, as an embedding.

    It is given batches of float images (B, C, H, W) in [0, 1] of the size and number of colours that they
    have: a network that wants another size, three colours or normalised values converts inside. It returns
    features (B, d).

    A copy is taken, in evaluation mode, so that features do not change when the module is trained on. Its
    name is its class's; its protocol adds the first twelve digits of the SHA-256 of its weights. Features
    are never cached, because its code may change.

    Arguments:
        module: the network.
    """

    def __init__(self, module: nn.Module) -> None:
        name = type(module).__name__
        super().__init__(name, f"{name} {weights_hash(module)[:12]}", network=copy.deepcopy(module))

    def embed(self, images: Tensor) -> Tensor:
        """See `Embedding.embed`.

        Raises:
            DataError: the module returns something else than features (B, d).
        """
        features = super().embed(images)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise DataError(f"embedding: {self.name} returned {found}, wanted features ({len(images)}, d)")
        return features

    def identity(self) -> None:
        """None: the same weights under changed code would give other features."""
