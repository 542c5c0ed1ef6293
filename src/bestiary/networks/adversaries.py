"""Generators and discriminators of every kind by one pair of functions, with or without conditions.

Fully connected ones start from torch's own small weights, as reproductions of the papers' toys do: with
Glorot's a generator of the ring's eight modes needs several times as many rounds to draw them sharply.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from bestiary.data.specs import ImageSpec, PointSpec, Spec
from bestiary.errors import DataError
from bestiary.networks import dcgan, infogan, metz, resnet_gan
from bestiary.networks.coders import Conditioned
from bestiary.networks.maxout import pacgan_discriminator, pacgan_generator
from bestiary.networks.minibatch_discrimination import MinibatchDiscrimination
from bestiary.networks.mlp import mlp

AdversaryName = Literal["infogan", "dcgan", "resnet", "mlp", "maxout", "metz-quarter", "metz-half"]
ConditioningName = Literal["concatenation", "projection"]

_CONVOLUTIONAL = {"infogan": infogan, "dcgan": dcgan, "resnet": resnet_gan}


def generator(
    kind: AdversaryName,
    spec: Spec,
    *,
    latent_dim: int,
    channels: int,
    hidden: Sequence[int],
    batch_norm: bool = True,
    batch_norm_decay: float,
    condition_dim: int = 0,
) -> Conditioned:
    """z (B, Z), and conditions beside it → raw example (B, *spec.shape), before the sigmoid.

    Raises:
        DataError: a convolutional network for other data than images, or for a size it cannot make.
    """
    inputs = latent_dim + condition_dim
    norm: dict[str, Any] = {"batch_norm": batch_norm, "batch_norm_decay": batch_norm_decay}
    if kind == "mlp":
        network = mlp(inputs, hidden, spec.shape, glorot=False)
    elif kind == "maxout":
        network = pacgan_generator(inputs, _points(kind, spec).dim)
    elif kind in ("metz-quarter", "metz-half"):
        network = metz.generator(_image(kind, spec), latent_dim=inputs, **norm)
    else:
        image = _image(kind, spec)
        network = _CONVOLUTIONAL[kind].generator(image, latent_dim=inputs, channels=channels, **norm)
    return Conditioned(network, maps=False)


def _layers(
    kind: AdversaryName, spec: Spec, *, shown: int, packing: int, channels: int, hidden: Sequence[int],
    outputs: int, **norm: Any,
) -> nn.Sequential:  # fmt: skip
    """Of a discriminator of packs, with `shown` numbers beside each example; the last is linear."""
    if kind == "mlp":
        return mlp(packing * (spec.dimensions + shown), hidden, outputs, glorot=False)
    if kind == "maxout":
        return pacgan_discriminator(packing * (_points(kind, spec).dim + shown), outputs)
    image = _image(kind, spec)
    image = replace(image, channels=packing * (image.channels + shown))
    if kind in ("metz-quarter", "metz-half"):
        size: metz.DiscriminatorSize = "quarter" if kind == "metz-quarter" else "half"
        return metz.discriminator(image, size=size, outputs=outputs, **norm)
    found: nn.Sequential = _CONVOLUTIONAL[kind].discriminator(
        image, channels=channels, outputs=outputs, **norm
    )
    return found


class Discriminator(nn.Module):
    """Features of an example, and one linear output of them.

    Arguments:
        kind, channels, hidden, batch_norm, batch_norm_decay: of the network.
        spec: of the examples.
        condition_dim: length of the condition vectors, 0 for none.
        conditioning: "concatenation" shows a condition with the example, as more numbers or constant maps;
            "projection" adds (V c) · φ(x) to the output for features φ: Miyato & Koyama 2018
            (arXiv 1802.05637), eq. 3.
        packing: examples m that are judged together, one behind the other in the channels: Lin et al. 2018
            (arXiv 1712.04086).
        kernels: of minibatch discrimination, 0 for none.
        spectral: divide the weights of linear and convolutional layers by their largest singular value, by
            one step of the power iteration at each pass in training: Miyato et al. 2018 (arXiv 1802.05957),
            Algorithm 1, which has one an update.
        outputs: numbers of raw output.

    Raises:
        DataError: as for `generator`.
    """

    def __init__(
        self,
        kind: AdversaryName,
        spec: Spec,
        *,
        channels: int,
        hidden: Sequence[int],
        batch_norm: bool,
        batch_norm_decay: float,
        condition_dim: int = 0,
        conditioning: ConditioningName = "concatenation",
        packing: int = 1,
        kernels: int = 0,
        spectral: bool = False,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self._packing = packing
        projected = conditioning == "projection" and condition_dim > 0
        *body, head = _layers(
            kind,
            spec,
            shown=0 if projected else condition_dim,
            packing=packing,
            channels=channels,
            hidden=hidden,
            outputs=outputs,
            batch_norm=batch_norm,
            batch_norm_decay=batch_norm_decay,
        )
        assert isinstance(head, nn.Linear)
        self.body = Conditioned(nn.Sequential(*body), maps=isinstance(spec, ImageSpec) and kind != "mlp")
        self.kernels: MinibatchDiscrimination | None = None
        if kernels:
            self.kernels = MinibatchDiscrimination(head.in_features, kernels)
            head = _widened(head, kernels)
        self.head = head
        self.projection = (
            nn.Linear(packing * condition_dim, self.features_dim, bias=False) if projected else None
        )
        self.register_load_state_dict_pre_hook(_of_one_sequence)  # type: ignore[no-untyped-call]
        if spectral:
            for module in list(self.modules()):
                if isinstance(module, nn.Linear | nn.Conv2d):
                    spectral_norm(module)

    @property
    def features_dim(self) -> int:
        """Length F of the features."""
        return self.head.in_features - (self.kernels.kernels if self.kernels else 0)

    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """φ(x), shape (B/m, F)."""
        m = self._packing
        x = x.reshape(-1, m * x.shape[1], *x.shape[2:])
        shown = None if condition is None or self.projection is not None else condition.reshape(len(x), -1)
        features: Tensor = self.body(x, shown)
        return features

    def judge(self, features: Tensor, condition: Tensor | None = None) -> Tensor:
        """The raw output of features, shape (B/m, outputs)."""
        seen = features if self.kernels is None else self.kernels(features)
        output: Tensor = self.head(seen)
        if self.projection is not None and condition is not None:
            rows: Tensor = self.projection(condition.reshape(len(features), -1))
            output = output + (rows * features).sum(1, keepdim=True)
        return output

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (B, *spec.shape), conditions (B, d) → raw output (B/m, outputs)."""
        return self.judge(self.features(x, condition), condition)


def autoencoder(
    kind: AdversaryName,
    spec: Spec,
    *,
    code_dim: int,
    channels: int,
    hidden: Sequence[int],
    batch_norm: bool,
    batch_norm_decay: float,
    condition_dim: int = 0,
) -> tuple[Conditioned | Discriminator, Conditioned]:
    """An encoder x → code (B, code_dim) and a decoder, code → raw x, both shown conditions (B, d).

    "infogan" are the networks of Lucic et al. for it; others have their discriminator and their generator.

    Raises:
        DataError: as for `generator`.
    """
    norm: dict[str, Any] = {"batch_norm": batch_norm, "batch_norm_decay": batch_norm_decay}
    if kind != "infogan":
        widths: dict[str, Any] = {
            "channels": channels,
            "hidden": hidden,
            "condition_dim": condition_dim,
            **norm,
        }
        coder = Discriminator(kind, spec, outputs=code_dim, **widths)
        return coder, generator(kind, spec, latent_dim=code_dim, **widths)
    image = _image(kind, spec)
    shown = replace(image, channels=image.channels + condition_dim)
    inputs = infogan.code_encoder(shown, code_dim=code_dim, channels=channels, **norm)
    outputs = infogan.code_decoder(image, code_dim=code_dim + condition_dim, channels=channels, **norm)
    return Conditioned(inputs, maps=True), Conditioned(outputs, maps=False)


def _widened(head: nn.Linear, kernels: int) -> nn.Linear:
    """The same layer for `kernels` inputs more, whose weights start as large as the others'."""
    wide = nn.Linear(head.in_features + kernels, head.out_features)
    with torch.no_grad():
        wide.weight.normal_(std=float(head.weight.std()))
        wide.weight[:, : head.in_features] = head.weight
        wide.bias.copy_(head.bias)
    return wide


def _of_one_sequence(module: nn.Module, state: dict[str, Any], prefix: str, *unused: Any) -> None:
    """Runs of format 1 have body and head as the layers of one sequence."""
    assert isinstance(module, Discriminator)
    for key in [key for key in state if key.startswith(prefix)]:
        layer, _, rest = key.removeprefix(prefix).partition(".")
        if layer.isdecimal():
            place = "head" if int(layer) == len(module.body) else f"body.{layer}"
            state[f"{prefix}{place}.{rest}"] = state.pop(key)


def _image(kind: str, spec: Spec) -> ImageSpec:
    if not isinstance(spec, ImageSpec):
        raise DataError(
            f"network: found {kind!r} for {type(spec).__name__}, wanted network=mlp, since only images have"
            " convolutional networks"
        )
    return spec


def _points(kind: str, spec: Spec) -> PointSpec:
    if not isinstance(spec, PointSpec):
        raise DataError(f"network: found {kind!r} for {type(spec).__name__}, wanted it for points alone")
    return spec


def default_network(spec: Spec) -> AdversaryName:
    """What network="auto" stands for: infogan for images, mlp for points.

    Raises:
        DataError: neither.
    """
    if not isinstance(spec, ImageSpec | PointSpec):
        raise DataError(f"spec: an adversarial model wants images or points, found {type(spec).__name__}")
    return "infogan" if isinstance(spec, ImageSpec) else "mlp"
