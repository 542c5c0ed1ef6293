"""Features of a fixed data set, computed once and kept."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bestiary.data.cache import cache_folder, locked, written_aside
from bestiary.data.splits import Split
from bestiary.errors import DataError
from bestiary.metrics.embeddings.base import Embedding

_BATCH = 500


def cached_features(
    embedding: Embedding,
    split: Split,
    *,
    n: int,
    fingerprint: str,
    part: str,
    cache: Path | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Features of the first `n` examples of a split, float32, shape (n, d): from the cache, or put there.

    They are kept under a hash of all that determines them: the data and the part of it, n, the embedding
    with its weights, and the code of the embeddings and of torch. A damaged file is made anew. Where the
    cache folder cannot be written, features are computed and not kept.

    Arguments:
        embedding: those without an `identity` are not cached.
        split: the examples, which go through the embedding in their order, a batch at a time.
        n: number of examples.
        fingerprint: what identifies the data (`Data.fingerprint`); empty for "do not cache".
        part: name of the split in the data ("test").
        cache: folder of cached features; None for `cache_folder()`.
        device: where to compute; None for where the embedding is.

    Raises:
        DataError: images that the embedding refuses.
    """

    def images() -> Iterator[Tensor]:
        return (batch.x for batch in split.batches(_BATCH, limit=n))

    identity = embedding.identity()
    if not fingerprint or identity is None:
        return embedding.features(images(), device=device)
    determining = [fingerprint, part, n, identity, _code_version()]
    key = hashlib.sha256(json.dumps(determining).encode()).hexdigest()[:16]
    path = (cache or cache_folder()) / f"features-{key}.safetensors"
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path))
        except DataError:
            return embedding.features(images(), device=device)
        features = _read(path)
        if features is None:
            features = embedding.features(images(), device=device)
            with suppress(DataError, SafetensorError), written_aside(path) as aside:
                save_file({"features": features}, aside)
        return features


def _read(path: Path) -> Tensor | None:
    try:
        with safe_open(path, framework="pt") as file:
            features: Tensor = file.get_tensor("features")
    except (OSError, SafetensorError):
        return None
    return features


def _code_version() -> str:
    """A hash of the source beside this file, so that no change of it can be forgotten."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
