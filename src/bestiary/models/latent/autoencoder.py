"""The auto-encoder: codes without a law."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Self

import torch
from torch import Tensor
from torch.optim import Adam

from bestiary.config import Ge, Gt, Le, Search
from bestiary.data.specs import ImageSpec, Spec
from bestiary.models.base import Clock, Encoder, Model, Move, Player, Step
from bestiary.models.inputs import (
    check_codes,
    check_values,
    condition_dim,
    condition_vectors,
    continuous_spec,
)
from bestiary.networks.coders import CoderName, decoder, encoder
from bestiary.networks.mlp import ActivationName

_ROWS = 512  # codes that are decoded at once


class Autoencoder(Model, Encoder):
    r"""x → z → x̂ through a narrow z, with the least squared error: principal components made non-linear,

    .. math::
        \min E \, \| x - g(f(\tilde{x})) \|^2

    where x̃ is x, or x with noise.

    With linear networks (`hidden=[]`) the best z of points spans the principal components; of images the
    decoder ends in a logistic function, which keeps them in [0, 1]. It has no law of z and so no samples:
    `bestiary.tasks.fit_prior` fits one to the codes and makes a model that has.

    Shapes: x (B, \*spec.shape), images in [0, 1]; z (B, Z).

    References:
        *Reducing the Dimensionality of Data with Neural Networks* (Hinton & Salakhutdinov, 2006), Science
        313, whose MNIST network is 784-1000-500-250-30; *Extracting and Composing Robust Features with
        Denoising Autoencoders* (Vincent et al., 2008), ICML, for the noise.

    Departures: weights are not pre-trained layer by layer, which Adam and Glorot's start made needless; the
    units are rectifiers instead of logistic, and the cost is the squared error instead of the cross-entropy.

    Arguments:
        spec: images or points.
        network: "mlp"; "infogan", the convolutional networks that the GANs use; or "residual".
        hidden, activation: the mlp's layers, mirrored in the decoder.
        channels: width of the convolutional networks.
        latent_dim: Z.
        noise: deviation of normal noise on what the encoder sees while it is trained.
        masking: probability that the encoder sees a zero instead of a number while it is trained.
        learning_rate: Adam's.
        batch_size: examples per update.

    Example:
        >>> model = Autoencoder(ImageSpec(1, 28, 28), latent_dim=2)
        >>> model.encode(torch.rand(3, 1, 28, 28)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        spec: Spec,
        *,
        network: CoderName = "mlp",
        hidden: Sequence[Annotated[int, Ge(1)]] = (1000, 500, 250),
        activation: ActivationName = "relu",
        channels: Annotated[int, Ge(1)] = 64,
        latent_dim: Annotated[int, Ge(1)] = 30,
        noise: Annotated[float, Ge(0)] = 0.0,
        masking: Annotated[float, Ge(0), Le(1)] = 0.0,
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-3,
        batch_size: Annotated[int, Ge(1)] = 100,
    ) -> None:
        super().__init__(continuous_spec(spec, "autoencoder"), batch_size=batch_size)
        self.latent_dim = latent_dim
        coder: dict[str, Any] = {
            "hidden": hidden,
            "channels": channels,
            "activation": activation,
            "condition_dim": condition_dim(spec),
        }
        self.encoder = encoder(network, spec, latent_dim, **coder)
        self.decoder = decoder(network, spec, 1, latent_dim=latent_dim, **coder)
        self._noise, self._masking = noise, masking
        self._optimizer = partial(Adam, lr=learning_rate, fused=True)

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """A few hundred weights a pixel."""
        network: CoderName = "infogan" if isinstance(spec, ImageSpec) else "mlp"
        return cls(spec, network=network, hidden=(16,), channels=4, latent_dim=2, batch_size=8)

    def players(self) -> Mapping[str, Player]:
        """One: encoder and decoder share the cost."""
        return {"model": Player(list(self.parameters()), self._optimizer)}

    def moves(self, clock: Clock) -> Sequence[Move]:
        """Gradient descent."""
        return [Move("model", self.cost)]

    def cost(self, step: Step) -> Mapping[str, Tensor]:
        """The squared error, summed over the numbers of an example, in the mean over examples."""
        seen = step.x
        if self._noise:
            seen = seen + self._noise * step.normal(*self.spec.shape)
        if self._masking:
            seen = seen * (step.uniform(*self.spec.shape) >= self._masking)
        condition = condition_vectors(self.spec, step.condition, len(seen))
        copy = self._decoded(self.encoder(seen, condition), condition)
        return {"loss": (copy - step.x).square().flatten(1).sum(1).mean()}

    def encode(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Encoder.encode`: the code itself."""
        check_values(self.spec, x)
        with self.evaluation():
            codes: Tensor = self.encoder(x, condition_vectors(self.spec, condition, len(x)))
            return codes

    def decode(self, z: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Encoder.decode`."""
        check_codes(z, self.latent_dim)
        with self.evaluation():
            context = condition_vectors(self.spec, condition, len(z))
            parts = [None] * len(z) if context is None else context.split(_ROWS)
            return torch.cat([self._decoded(rows, c) for rows, c in zip(z.split(_ROWS), parts, strict=False)])

    def _decoded(self, z: Tensor, condition: Tensor | None) -> Tensor:
        raw: Tensor = self.decoder(z, condition)
        return raw.sigmoid() if isinstance(self.spec, ImageSpec) else raw
