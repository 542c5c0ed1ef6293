"""PixelCNN++: two shifted streams through several resolutions, and a mixture of logistics for each pixel."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Self

import torch
from torch import Tensor

from bestiary.config import Ge, Gt, Le, Lt, Search
from bestiary.data.specs import ImageSpec, Spec
from bestiary.data.splits import Batch
from bestiary.distributions.logistic_mixture import DiscretizedLogisticMixture, raw_outputs
from bestiary.errors import DataError
from bestiary.models.autoregressive.base import Autoregressive
from bestiary.models.base import Player
from bestiary.models.inputs import condition_dim, image_spec
from bestiary.models.optimizers import OptimizerName, named_optimizer
from bestiary.models.schedules import exponential_decay
from bestiary.networks.pixelcnn_pp import PixelCNNPlusPlusNetwork
from bestiary.networks.pixelcnn_pp_cache import PixelCNNPlusPlusCache


class PixelCNNPlusPlus(Autoregressive):
    """Exact likelihood of images, as a product over pixels of mixtures of discretised logistics.

    log p(x | h) = Σ_i log Σ_k π_ik Π_c P(x_ic | μ_ikc, s_ikc), where π, μ and s of pixel i come from one
    network that sees the pixels before it, and μ of G and B depends linearly on R and on R and G besides.

    Images (B, C, H, W) in [0, 1] with L = `spec.levels` levels per sub-pixel, any number of them from 2. The
    condition h is a class, one-hot, or a vector. Likelihoods are nats.

    References:
        *PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other
        Modifications* (Salimans et al., 2017), arXiv 1701.05517, details from the authors' code; cached
        sampling after *Fast Generation for Convolutional Autoregressive Models* (Ramachandran et al., 2017),
        arXiv 1704.06001.

    Departures from the paper: the masses are exact (`faithful` for the published approximation). Sub-pixels
    are drawn from their exact conditional masses; the published draw of a component and then of its
    logistics has the same law, but for leaving values between levels. The batch is that of one of the
    paper's eight devices. The first batch sets the weights' scales, without dropout, where the code took
    100 images with it.

    Arguments:
        spec: images whose sides 2 divides `resolutions` − 1 times; `condition` may be none, classes or a
            vector.
        filters: F, maps of each stream.
        resnets: gated residual blocks in a row.
        resolutions: of the image inside the network, each half of the one before.
        mixtures: K, logistics of each pixel.
        dropout: probability of a map's pixel to be dropped, inside the residual blocks.
        weight_norm: normalised weights whose scales the first batch sets; else plain ones after Glorot.
        faithful: train and score with the published code's approximation of small masses: these no longer
            sum to one exactly. Samples come from the exact ones.
        optimizer: "adam", or "rmsprop" or "soap" with their usual constants.
        learning_rate: of the optimiser.
        beta1, beta2: of Adam.
        learning_rate_decay: factor on the learning rate for each update made.
        polyak: decay for each update of the average of the weights that samples and scores use; 0 for none.
        batch_size: images per update.

    Raises:
        DataError: the sides cannot be halved so often, or the data are no images.

    Example:
        >>> model = PixelCNNPlusPlus(ImageSpec(3, 32, 32), filters=32, resnets=2)
        >>> x = model.sample(16, generator=torch.Generator().manual_seed(0))
    """

    def __init__(
        self,
        spec: Spec,
        *,
        filters: Annotated[int, Ge(1), Search(16, 160, log=True)] = 160,
        resnets: Annotated[int, Ge(1), Search(1, 5)] = 5,
        resolutions: Annotated[int, Ge(1), Le(8)] = 3,
        mixtures: Annotated[int, Ge(1), Search(1, 10)] = 10,
        dropout: Annotated[float, Ge(0), Lt(1), Search(0, 0.5)] = 0.5,
        weight_norm: bool = True,
        faithful: bool = False,
        optimizer: OptimizerName = "adam",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-3,
        beta1: Annotated[float, Ge(0), Lt(1)] = 0.95,
        beta2: Annotated[float, Gt(0), Lt(1)] = 0.9995,
        learning_rate_decay: Annotated[float, Gt(0), Le(1)] = 0.999995,
        polyak: Annotated[float, Ge(0), Lt(1)] = 0.9995,
        batch_size: Annotated[int, Ge(1)] = 16,
    ) -> None:
        super().__init__(spec, batch_size=batch_size)
        most = _halvings(self.spec) + 1
        if resolutions > most:
            raise DataError(
                f"spec: found images of {self.spec.height} × {self.spec.width}, wanted sides divisible by "
                f"{2 ** (resolutions - 1)} for {resolutions} resolutions: pad them, or choose at most "
                f"resolutions={most}"
            )
        self.faithful = faithful
        self.network = PixelCNNPlusPlusNetwork(
            self.spec.channels,
            raw_outputs(self.spec.channels, mixtures),
            filters=filters,
            resnets=resnets,
            resolutions=resolutions,
            condition_dim=condition_dim(spec),
            dropout=dropout,
            weight_norm=weight_norm,
        )
        self._optimizer = named_optimizer(optimizer, learning_rate, betas=(beta1, beta2))
        self._schedule = partial(exponential_decay, factor=learning_rate_decay)
        # d = 2^(−batch / half-life) for each update
        self._ema = -batch_size * math.log(2) / math.log(polyak) if polyak else None

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """A few filters, and two resolutions where the image can be halved."""
        resolutions = 1 + min(1, _halvings(image_spec(spec, cls.__name__)))
        return cls(spec, filters=6, resnets=1, resolutions=resolutions, mixtures=2, dropout=0.1)

    def players(self) -> Mapping[str, Player]:
        """One, "model"."""
        return {"model": Player(list(self.parameters()), self._optimizer, self._schedule, self._ema)}

    def initialise(self, batch: Batch) -> None:
        """Set the scale and bias of every convolution so that its outputs are standardised on the batch."""
        self.network.initialise(2 * batch.x - 1, self.condition_vectors(batch.condition, len(batch)))

    def law(self, x: Tensor, condition: Tensor | None = None) -> DiscretizedLogisticMixture:
        """The mixture of every pixel given the pixels before it, batch shape (B, H, W), event shape (C,).

        Raises:
            DataError: images or conditions of another shape or kind than the spec's.
        """
        self.check_images(x)
        raw: Tensor = self.network(2 * x - 1, self.condition_vectors(condition, len(x)))
        spec = self.spec
        return DiscretizedLogisticMixture.from_raw(
            raw.permute(0, 2, 3, 1), channels=spec.channels, levels=spec.levels, faithful=self.faithful
        )

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `Autoregressive.logits`; these are log masses, which sum to one."""
        law, values = self.law(x, condition), x.permute(0, 2, 3, 1)
        masses = [law.level_log_masses(c, values) for c in range(self.spec.channels)]  # (B, H, W, L) each
        return torch.stack(masses).permute(1, 4, 0, 2, 3)

    def cache(self, batch: int, condition: Tensor | None = None) -> PixelCNNPlusPlusCache:
        """See `Autoregressive.cache`."""
        return PixelCNNPlusPlusCache(self.network, batch, self.spec, self.condition_vectors(condition, batch))

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        x = (x * (self.spec.levels - 1)).round() / (self.spec.levels - 1)
        return self.law(x, condition).log_prob(x.permute(0, 2, 3, 1)).sum(dim=(1, 2))


def _halvings(spec: ImageSpec) -> int:
    """How often 2 divides both sides."""
    common = math.gcd(spec.height, spec.width)
    return (common & -common).bit_length() - 1
