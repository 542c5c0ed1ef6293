"""Rows of the adversarial family."""

from dataclasses import replace

from bestiary.catalogue.entry import CatalogueEntry

_GAN = "bestiary.models.adversarial.gan:GAN"
_ADVERSARIAL_LAPTOP = {
    "channels": 32,
    "learning_rate": 1e-3,
    "beta1": 0.5,
    "batch_norm_decay": 0.99,
    "ema_half_life": 5000.0,
}
_GOODFELLOW = "Generative Adversarial Networks (Goodfellow et al., 2014)"

ENTRIES = (
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
        defaults={
            "penalty_weight": 10.0,
            "batch_norm": False,
            "learning_rate": 1e-4,
            "beta1": 0.5,
            "beta2": 0.9,
        },
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

# Names that people type for a model of the table with networks and settings of another paper.
VARIANTS: dict[str, CatalogueEntry] = {
    "dcgan": replace(
        next(entry for entry in ENTRIES if entry.name == "ns-gan"),
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
