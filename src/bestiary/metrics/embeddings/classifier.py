"""A small classifier trained on the data set's own labels: features for grey and odd-sized images.

It also says which class a sample belongs to, which no network trained on photographs can do for clothes
or digits. Its accuracy on held-out data is part of its protocol: a score is worth no more than that.
"""

import hashlib
import json
import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from bestiary.data.cache import cache_folder, locked, written_aside
from bestiary.data.order import BatchOrder
from bestiary.data.splits import Split
from bestiary.errors import DataError
from bestiary.metrics.embeddings.base import ClassifierEmbedding

SIDE = 28
FEATURES = 128
STEPS = 1600
EPOCHS = 25  # at most, for small data
BATCH = 128
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 1e-2
DROPOUT = 0.3
# Raise it with any change of the network or its training, so that no cached file of the old one is used.
RECIPE = 1


class SmallConvNet(nn.Module):
    """Two convolutions and one hidden layer: images (B, C, H, W) in [0, 1] to features (B, 128).

    Images of another size are resized to 28×28 (bilinear, antialiased when they shrink).
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * (SIDE // 4) ** 2, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        if images.shape[1] > self.channels:
            raise DataError("images: found colour, wanted grey, which the classifier was trained on")
        x = images.expand(-1, self.channels, -1, -1).contiguous(memory_format=torch.channels_last)
        if x.shape[2:] != (SIDE, SIDE):
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        features: Tensor = self.layers(x)
        return features


def trained_classifier(
    train: Split,
    held_out: Split,
    *,
    classes: int,
    fingerprint: str = "",
    seed: int = 0,
    cache: Path | None = None,
) -> ClassifierEmbedding:
    """The classifier of a data set: taken from the cache, or trained in less than a minute and put there.

    Its protocol is "classifier acc=0.912": the accuracy on `held_out`.

    Arguments:
        train, held_out: images with `labels` 0 … classes − 1.
        classes: number of classes.
        fingerprint: what identifies the data (`Data.fingerprint`); empty for "do not cache".
        seed: of the initial weights, the batch order and the dropout.
        cache: folder of cached weights; None for `cache_folder()`.

    Raises:
        DataError: splits without labels, or labels that do not fit `classes`.
    """
    labels, held_out_labels = _labels(train, classes), _labels(held_out, classes)
    network = _initial(train[0].x.shape[1], classes, seed)

    def fitted() -> float:
        _fit(network, train, labels, seed)
        trained = ClassifierEmbedding("classifier", "", network=network, head=network.head)
        guesses = [trained.probabilities(batch.x).argmax(dim=1) for batch in held_out.batches(500)]
        return (torch.cat(guesses) == held_out_labels).double().mean().item()

    if fingerprint:
        recipe = [RECIPE, SIDE, FEATURES, STEPS, EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY, DROPOUT]
        key = hashlib.sha256(json.dumps([fingerprint, classes, seed, recipe]).encode()).hexdigest()[:16]
        path = (cache or cache_folder()) / f"classifier-{key}.safetensors"
        with locked(path):
            accuracy = _load(network, path)
            if accuracy is None:
                accuracy = fitted()
                weights = {name: value.contiguous() for name, value in network.state_dict().items()}
                with written_aside(path) as aside:
                    save_file(weights, aside, metadata={"accuracy": repr(accuracy)})
    else:
        accuracy = fitted()
    protocol = f"classifier acc={accuracy:.3f}"
    return ClassifierEmbedding("classifier", protocol, network=network, head=network.head)


def _labels(split: Split, classes: int) -> Tensor:
    if split.labels is None:
        raise DataError("embedding: 'classifier' needs class labels, these data have none: use another one")
    if split.labels.min() < 0 or split.labels.max() >= classes:
        low, high = int(split.labels.min()), int(split.labels.max())
        raise DataError(f"labels: found {low} to {high}, wanted 0 to {classes - 1} for classes={classes}")
    return split.labels.long()


def _initial(channels: int, classes: int, seed: int) -> SmallConvNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallConvNet(channels, classes)
        convert_conv2d_weight_memory_format(network, torch.channels_last)
        return network


def _fit(network: SmallConvNet, train: Split, labels: Tensor, seed: int) -> None:
    network.train()
    steps = min(STEPS, math.ceil(EPOCHS * len(train) / BATCH))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    order = BatchOrder(len(train), seed)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        for step in range(steps):
            indices = order.indices(step * BATCH, BATCH)
            features = F.dropout(network(train.take(indices).x), DROPOUT)
            loss = F.cross_entropy(network.head(features), labels[indices])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    network.eval()


def _load(network: SmallConvNet, path: Path) -> float | None:
    """The accuracy, with the weights put into `network`; None where there is no whole file."""
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in network.state_dict()}
            accuracy = float(file.metadata()["accuracy"])
    except (OSError, SafetensorError):
        return None
    network.load_state_dict(weights, strict=True)
    return accuracy
