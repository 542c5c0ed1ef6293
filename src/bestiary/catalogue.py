"""Every model of the package, in one hand-written table; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from bestiary.errors import OptionError, unknown_name

if TYPE_CHECKING:
    from bestiary.data.specs import Spec
    from bestiary.models.base import Model

Family = Literal["autoregressive", "latent", "adversarial", "hybrid", "translation", "baseline"]
Preset = Literal["paper", "laptop"]


@dataclass(frozen=True)
class CatalogueEntry:
    """One named model.

    Attributes:
        name: what people type.
        path: "module:Class".
        family: which of the six families.
        summary: one line for the list.
        paper: title, authors, year.
        arxiv: number of the paper, or where it was published.
        year: of the paper.
        identity: settings that make the class this model.
        defaults: other settings of its paper; the rest are the constructor's own defaults.
        laptop: settings of the reduced preset, on top of these.
        aliases: other names that people type.
    """

    name: str
    path: str
    family: Family
    summary: str
    paper: str
    arxiv: str
    year: int
    identity: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    laptop: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def load(self) -> "type[Model]":
        """The model's class."""
        module, _, name = self.path.partition(":")
        kind: type[Model] = getattr(import_module(module), name)
        return kind

    def settings(self, preset: Preset = "paper") -> dict[str, Any]:
        """The settings of a preset, before the constructor's own defaults."""
        if preset not in ("paper", "laptop"):
            raise unknown_name("preset", preset, ["paper", "laptop"])
        return {**self.identity, **self.defaults, **(self.laptop if preset == "laptop" else {})}


_GAN = "bestiary.models.adversarial.gan:GAN"
_ADVERSARIAL_LAPTOP = {
    "channels": 32,
    "learning_rate": 1e-3,
    "beta1": 0.5,
    "batch_norm_decay": 0.99,
    "ema_half_life": 5000.0,
}
_GOODFELLOW = "Generative Adversarial Networks (Goodfellow et al., 2014)"

_VAE_LAPTOP = {
    "network": "infogan",
    "channels": 32,
    "latent_dim": 10,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "batch_size": 50,
}

_PIXEL_RNN = "bestiary.models.autoregressive.pixelrnn:PixelRNN"
_PIXEL_RNN_LAPTOP = {
    "layers": 3,
    "channels": 16,
    "head_channels": 64,
    "optimizer": "adam",
    "learning_rate": 1e-2,
    "anneal": 0.5,
    "max_grad_norm": 1.0,
    "batch_size": 8,
}

_ENTRIES = (
    CatalogueEntry(
        name="ppca",
        path="bestiary.models.baseline.ppca:PPCA",
        family="baseline",
        summary="probabilistic PCA: one Gaussian of low rank, solved in closed form",
        paper="Probabilistic Principal Component Analysis (Tipping & Bishop, 1999)",
        arxiv="J. R. Stat. Soc. B 61(3)",
        year=1999,
        aliases=("pca",),
    ),
    CatalogueEntry(
        name="gaussian-mixture",
        path="bestiary.models.baseline.gaussian_mixture:GaussianMixture",
        family="baseline",
        summary="many Gaussians side by side, fitted by EM from the clusters of k-means",
        paper="Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster et al., 1977)",
        arxiv="J. R. Stat. Soc. B 39(1)",
        year=1977,
        laptop={"components": 50},
        aliases=("gmm",),
    ),
    CatalogueEntry(
        name="pixelrnn-row",
        path=_PIXEL_RNN,
        family="autoregressive",
        summary="every pixel from a triangle of earlier ones, by LSTMs that go over the image row by row",
        paper="Pixel Recurrent Neural Networks (van den Oord et al., 2016)",
        arxiv="1601.06759",
        year=2016,
        identity={"recurrence": "row"},
        laptop=_PIXEL_RNN_LAPTOP,
    ),
    CatalogueEntry(
        name="pixelrnn-diagonal",
        path=_PIXEL_RNN,
        family="autoregressive",
        summary="every pixel from all earlier ones, by LSTMs along the diagonals from both upper corners",
        paper="Pixel Recurrent Neural Networks (van den Oord et al., 2016)",
        arxiv="1601.06759",
        year=2016,
        identity={"recurrence": "diagonal"},
        laptop=_PIXEL_RNN_LAPTOP,
        aliases=("pixelrnn",),
    ),
    CatalogueEntry(
        name="multiscale-pixelrnn",
        path="bestiary.models.autoregressive.multiscale_pixelrnn:MultiscalePixelRNN",
        family="autoregressive",
        summary="a small image first, then the whole one given it, both by PixelRNN",
        paper="Pixel Recurrent Neural Networks (van den Oord et al., 2016), §3.6",
        arxiv="1601.06759",
        year=2016,
        laptop={**_PIXEL_RNN_LAPTOP, "map_channels": 16},
    ),
    CatalogueEntry(
        name="pixelcnn",
        path="bestiary.models.autoregressive.pixelcnn:PixelCNN",
        family="autoregressive",
        summary="every pixel from earlier ones, by one stack of masked convolutions with a blind spot",
        paper="Pixel Recurrent Neural Networks (van den Oord et al., 2016)",
        arxiv="1601.06759",
        year=2016,
        laptop={
            "blocks": 7,
            "channels": 24,
            "head_channels": 96,
            "optimizer": "adam",
            "learning_rate": 3e-3,
            "anneal": 0.5,
            "batch_size": 4,
        },
    ),
    CatalogueEntry(
        name="gated-pixelcnn",
        path="bestiary.models.autoregressive.gated_pixelcnn:GatedPixelCNN",
        family="autoregressive",
        summary="every pixel from all earlier ones, by masked convolutions without a blind spot",
        paper="Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016)",
        arxiv="1606.05328",
        year=2016,
        laptop={
            "layers": 5,
            "channels": 32,
            "kernel_size": 3,
            "head_channels": 96,
            "optimizer": "adam",
            "learning_rate": 3e-3,
            "anneal": 0.5,
            "batch_size": 4,
        },
    ),
    CatalogueEntry(
        name="pixelcnn++",
        path="bestiary.models.autoregressive.pixelcnn_pp:PixelCNNPlusPlus",
        family="autoregressive",
        summary="every pixel a mixture of logistics, from a network of several resolutions",
        paper="PixelCNN++ (Salimans et al., 2017)",
        arxiv="1701.05517",
        year=2017,
        laptop={
            "filters": 24,
            "resnets": 1,
            "mixtures": 5,
            "dropout": 0.0,
            "learning_rate": 3e-3,
            "polyak": 0.99,
            "batch_size": 8,
        },
    ),
    CatalogueEntry(
        name="order-agnostic",
        path="bestiary.models.autoregressive.order_agnostic:OrderAgnostic",
        family="autoregressive",
        summary="the pixels in any order, chosen when it is used; completes any part of an image exactly",
        paper="Locally Masked Convolution for Autoregressive Models (Jain, Abbeel & Pathak, 2020)",
        arxiv="2006.12486",
        year=2020,
        laptop={
            "hidden": 0.5,
            "blocks": 0,
            "channels": 32,
            "learning_rate": 3e-3,
            "anneal": 0.5,
            "batch_size": 8,
        },
    ),
    CatalogueEntry(
        name="transformer",
        path="bestiary.models.autoregressive.transformer:Transformer",
        family="autoregressive",
        summary="sequences instead of images: every symbol from all earlier ones, by attention",
        paper="Attention Is All You Need (Vaswani et al., 2017)",
        arxiv="1706.03762",
        year=2017,
        laptop={
            "layers": 4,
            "heads": 4,
            "model_dim": 64,
            "feedforward_dim": 256,
            "dropout": 0.0,
            "learning_rate": 6e-3,
            "warmup": 500,
            "anneal": 1.0,
            "batch_size": 64,
        },
    ),
    CatalogueEntry(
        name="autoencoder",
        path="bestiary.models.latent.autoencoder:Autoencoder",
        family="latent",
        summary="codes from which the data can be copied, without a law of codes and so without samples",
        paper="Reducing the Dimensionality of Data with Neural Networks (Hinton & Salakhutdinov, 2006)",
        arxiv="Science 313",
        year=2006,
        laptop={"network": "infogan", "channels": 32, "latent_dim": 10, "batch_size": 50},
    ),
    CatalogueEntry(
        name="vae",
        path="bestiary.models.latent.vae:VAE",
        family="latent",
        summary="a decoder of Gaussian codes, trained through an encoder by a bound",
        paper="Auto-Encoding Variational Bayes (Kingma & Welling, 2014)",
        arxiv="1312.6114",
        year=2014,
        laptop=_VAE_LAPTOP,
    ),
    CatalogueEntry(
        name="conditional-vae",
        path="bestiary.models.latent.conditional_vae:ConditionalVAE",
        family="latent",
        summary="a VAE that is told a class or attributes, its prior of codes too",
        paper="Learning Structured Output Representation using Deep Conditional Generative Models "
        "(Sohn, Lee & Yan, 2015)",
        arxiv="NeurIPS 28",
        year=2015,
        laptop=_VAE_LAPTOP,
        aliases=("cvae",),
    ),
    CatalogueEntry(
        name="beta-vae",
        path="bestiary.models.latent.beta_vae:BetaVAE",
        family="latent",
        summary="a VAE that pays more for its codes, so that each number of a code means one thing",
        paper="beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework "
        "(Higgins et al., 2017)",
        arxiv="ICLR 2017",
        year=2017,
        laptop=_VAE_LAPTOP,
    ),
    CatalogueEntry(
        name="spherical-vae",
        path="bestiary.models.latent.spherical_vae:SphericalVAE",
        family="latent",
        summary="a VAE of codes on a sphere, where no code is nearer to the centre than another",
        paper="Hyperspherical Variational Auto-Encoders (Davidson et al., 2018)",
        arxiv="1804.00891",
        year=2018,
        laptop={"network": "infogan", "channels": 32, "warmup": 1.0, "batch_size": 50},
    ),
    CatalogueEntry(
        name="ladder-vae",
        path="bestiary.models.latent.ladder_vae:LadderVAE",
        family="latent",
        summary="a hierarchy of codes, whose posterior goes down the same ladder as the samples",
        paper="Ladder Variational Autoencoders (Sønderby et al., 2016)",
        arxiv="1602.02282",
        year=2016,
        laptop={
            "latent_dims": [32, 16, 8],
            "hidden": [256, 128, 64],
            "warmup": 5.0,
            "batch_size": 64,
        },
    ),
    CatalogueEntry(
        name="iwae",
        path="bestiary.models.latent.iwae:IWAE",
        family="latent",
        summary="a VAE trained on a tighter bound, of many codes for each example",
        paper="Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2016)",
        arxiv="1509.00519",
        year=2016,
        laptop={**_VAE_LAPTOP, "particles": 5, "schedule": "constant"},
    ),
    CatalogueEntry(
        name="minimax-gan",
        path=_GAN,
        family="adversarial",
        summary="the original game, whose generator gradient vanishes when the discriminator is sure",
        paper=_GOODFELLOW,
        arxiv="1406.2661",
        year=2014,
        identity={"game": "minimax", "penalty": "none"},
        laptop=_ADVERSARIAL_LAPTOP,
    ),
    CatalogueEntry(
        name="ns-gan",
        path=_GAN,
        family="adversarial",
        summary="the non-saturating game that everybody plays",
        paper=f"{_GOODFELLOW}, §3",
        arxiv="1406.2661",
        year=2014,
        identity={"game": "non_saturating", "penalty": "none"},
        laptop=_ADVERSARIAL_LAPTOP,
        aliases=("gan", "dcgan"),
    ),
    CatalogueEntry(
        name="ml-gan",
        path=_GAN,
        family="adversarial",
        summary="a generator whose gradient is that of maximum likelihood, as far as D knows",
        paper="On Distinguishability Criteria for Estimating Generative Models (Goodfellow, 2014)",
        arxiv="1412.6515",
        year=2014,
        identity={"game": "maximum_likelihood", "penalty": "none"},
        laptop=_ADVERSARIAL_LAPTOP,
    ),
    CatalogueEntry(
        name="lsgan",
        path=_GAN,
        family="adversarial",
        summary="squared distances of the raw output from 0 and 1, in place of cross-entropy",
        paper="Least Squares Generative Adversarial Networks (Mao et al., 2017)",
        arxiv="1611.04076",
        year=2017,
        identity={"game": "least_squares", "penalty": "none"},
        defaults={"learning_rate": 2e-4, "beta1": 0.5},
        laptop=_ADVERSARIAL_LAPTOP,
    ),
    CatalogueEntry(
        name="wgan",
        path=_GAN,
        family="adversarial",
        summary="a critic of bounded weights estimates the distance that the generator shortens",
        paper="Wasserstein GAN (Arjovsky, Chintala & Bottou, 2017)",
        arxiv="1701.07875",
        year=2017,
        identity={"game": "wasserstein", "penalty": "none"},
        defaults={
            "clip": 0.01,
            "optimizer": "rmsprop",
            "learning_rate": 5e-5,
            "discriminator_updates": 5,
        },
        # at the paper's .01 the critic's output vanishes from layer to layer of these networks
        laptop={**_ADVERSARIAL_LAPTOP, "learning_rate": 5e-4, "clip": 0.1},
    ),
    CatalogueEntry(
        name="wgan-gp",
        path=_GAN,
        family="adversarial",
        summary="a critic whose slope is held at 1 between data and samples",
        paper="Improved Training of Wasserstein GANs (Gulrajani et al., 2017)",
        arxiv="1704.00028",
        year=2017,
        identity={"game": "wasserstein", "penalty": "gradient"},
        defaults={
            "penalty_weight": 10.0,
            "batch_norm": False,
            "learning_rate": 1e-4,
            "beta1": 0.0,
            "beta2": 0.9,
            "discriminator_updates": 5,
        },
        laptop={**_ADVERSARIAL_LAPTOP, "learning_rate": 1e-3},
    ),
    CatalogueEntry(
        name="dragan",
        path=_GAN,
        family="adversarial",
        summary="the non-saturating game with a discriminator whose slope is held at 1 around the data",
        paper="On Convergence and Stability of GANs (Kodali et al., 2017)",
        arxiv="1705.07215",
        year=2017,
        identity={"game": "non_saturating", "penalty": "dragan"},
        defaults={"penalty_weight": 10.0, "batch_norm": False, "learning_rate": 1e-4, "beta1": 0.5},
        laptop=_ADVERSARIAL_LAPTOP,
    ),
    CatalogueEntry(
        name="began",
        path="bestiary.models.adversarial.began:BEGAN",
        family="adversarial",
        summary="the discriminator is an autoencoder, and a controller keeps the two players level",
        paper="BEGAN: Boundary Equilibrium Generative Adversarial Networks (Berthelot et al., 2017)",
        arxiv="1703.10717",
        year=2017,
        # at the paper's .001 the controller is felt only after tens of thousands of rounds
        laptop={**_ADVERSARIAL_LAPTOP, "learning_rate": 3e-4, "balance_rate": 0.1},
    ),
    CatalogueEntry(
        name="unrolled-gan",
        path="bestiary.models.adversarial.unrolled_gan:UnrolledGAN",
        family="adversarial",
        summary="the generator looks several steps of the discriminator ahead",
        paper="Unrolled Generative Adversarial Networks (Metz et al., 2017)",
        arxiv="1611.02163",
        year=2017,
        identity={"game": "minimax"},
        defaults={"learning_rate": 1e-4, "beta1": 0.5},
        laptop={**_ADVERSARIAL_LAPTOP, "unrolling_steps": 3},
    ),
)

CATALOGUE: dict[str, CatalogueEntry] = {entry.name: entry for entry in _ENTRIES}
# Names that people type for a model of the table with networks and settings of another paper.
_VARIANTS: dict[str, CatalogueEntry] = {
    "dcgan": replace(
        CATALOGUE["ns-gan"],
        name="dcgan",
        summary="ns-gan with deep convolutional networks for images of any size",
        paper="Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks "
        "(Radford, Metz & Chintala, 2016)",
        arxiv="1511.06434",
        year=2016,
        defaults={
            "network": "dcgan",
            "latent_dim": 100,
            "learning_rate": 2e-4,
            "beta1": 0.5,
            "batch_size": 128,
        },
        aliases=(),
    )
}
ALIASES: dict[str, str] = {alias: entry.name for entry in _ENTRIES for alias in entry.aliases}


def entry(name: str) -> CatalogueEntry:
    """The entry of a name or alias.

    Raises:
        OptionError: no such model; the message names the nearest.
    """
    key = name.lower().replace("_", "-")
    if key in _VARIANTS:
        return _VARIANTS[key]
    key = ALIASES.get(key, key)
    if key not in CATALOGUE:
        raise unknown_name("model", name, [*CATALOGUE, *ALIASES], "(`bestiary models` lists them)")
    return CATALOGUE[key]


def name_of(model: "Model") -> str | None:
    """The catalogue's name for a model: of the entries of its class the one whose identity it has most of."""
    path = f"{type(model).__module__}:{type(model).__qualname__}"
    candidates = [candidate for candidate in _ENTRIES if candidate.path == path]

    def differences(candidate: CatalogueEntry) -> int:
        return sum(model.settings.get(key) != value for key, value in candidate.identity.items())

    return min(candidates, key=differences).name if candidates else None


def create(name: str, *, spec: "Spec", seed: int = 0, preset: Preset = "paper", **settings: Any) -> "Model":
    """Build a model of the catalogue, with weights drawn from `seed`.

    Arguments:
        name: of the catalogue, or an alias.
        spec: of the data the model is for (`data.spec`).
        seed: of the initial weights; the global random state is left alone.
        preset: "paper" for the paper's settings, "laptop" for reduced ones.
        settings: the constructor's keyword arguments, over the preset's.

    Raises:
        OptionError: an unknown model, setting or preset, or a value that is not valid.
        DataError: the model cannot be made for such data.
    """
    from bestiary.config import resolve
    from bestiary.randomness import forked_randomness

    found = entry(name)
    kind = found.load()
    resolved = resolve(kind, {**found.settings(preset), **settings}, owner=found.name)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise OptionError(f"seed: found {seed!r}, wanted a whole number ≥ 0")
    with forked_randomness(seed):
        model = kind(spec, **resolved)
    return model.eval()
