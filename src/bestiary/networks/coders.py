"""Encoders and decoders of every kind by one pair of functions, with or without conditions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from bestiary.data.specs import ImageSpec, Spec
from bestiary.errors import DataError
from bestiary.networks import infogan, residual
from bestiary.networks.mlp import ActivationName, mlp

CoderName = Literal["mlp", "infogan", "residual"]


class Conditioned(nn.Sequential):
    """Layers that are shown conditions (B, d) beside their input: as more numbers, or as constant maps."""

    def __init__(self, layers: nn.Sequential, *, maps: bool) -> None:
        super().__init__(*layers)
        self._maps = maps

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Raw output for x (B, …), and its conditions where there are any."""
        if condition is not None:
            if self._maps:
                x = torch.cat([x, condition[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)
            else:
                x = torch.cat([x.flatten(1), condition], dim=1)
        for layer in self:
            x = layer(x)
        return x


def encoder(
    kind: CoderName,
    spec: Spec,
    outputs: int,
    *,
    hidden: Sequence[int],
    channels: int,
    activation: ActivationName,
    condition_dim: int = 0,
    batch_norm: bool = False,
    batch_norm_decay: float = 0.999,
) -> Conditioned:
    """Examples (B, *spec.shape) → raw outputs (B, outputs).

    Arguments:
        kind: "mlp"; "infogan", the convolutional networks that the GANs use; or "residual".
        spec: of the examples.
        outputs: numbers of raw output.
        hidden, activation: of the mlp.
        channels: width of the convolutional networks.
        condition_dim: length of the condition vectors.
        batch_norm, batch_norm_decay: of the infogan networks.

    Raises:
        DataError: a convolutional network for other data than images, or for a side that it cannot halve.
    """
    if kind == "mlp":
        return Conditioned(
            mlp(spec.dimensions + condition_dim, hidden, outputs, activation=activation), maps=False
        )
    image = _image(kind, spec)
    image = replace(image, channels=image.channels + condition_dim)
    if kind == "infogan":
        network = infogan.discriminator(
            image,
            channels=channels,
            batch_norm=batch_norm,
            batch_norm_decay=batch_norm_decay,
            outputs=outputs,
        )
    else:
        network = residual.encoder(image, channels=channels, outputs=outputs)
    return Conditioned(network, maps=True)


def decoder(
    kind: CoderName,
    spec: Spec,
    outputs: int,
    *,
    latent_dim: int,
    hidden: Sequence[int],
    channels: int,
    activation: ActivationName,
    condition_dim: int = 0,
    batch_norm: bool = False,
    batch_norm_decay: float = 0.999,
) -> Conditioned:
    """Codes (B, Z) → raw outputs (B, outputs·C, H, W), or (B, outputs·D) for points.

    Arguments:
        latent_dim: Z.
        outputs: raw numbers for every channel of an image, or every dimension of a point.
        kind, spec, hidden, channels, activation, condition_dim, batch_norm, batch_norm_decay: as for
            `encoder`.

    Raises:
        DataError: as for `encoder`.
    """
    inputs, maps = latent_dim + condition_dim, outputs * spec.shape[0]
    if kind == "mlp":
        network = mlp(inputs, hidden[::-1], (maps, *spec.shape[1:]), activation=activation)
    elif kind == "infogan":
        network = infogan.generator(
            _image(kind, spec),
            latent_dim=inputs,
            channels=channels,
            batch_norm=batch_norm,
            batch_norm_decay=batch_norm_decay,
            outputs=maps,
            activation=nn.ReLU,
        )
    else:
        network = residual.decoder(_image(kind, spec), latent_dim=inputs, channels=channels, outputs=maps)
    return Conditioned(network, maps=False)


def _image(kind: str, spec: Spec) -> ImageSpec:
    if not isinstance(spec, ImageSpec):
        raise DataError(
            f"network: found {kind!r} for {type(spec).__name__}, wanted network=mlp, since only images have"
            " convolutional networks"
        )
    return spec
