"""Rows of the latent-variable family."""

from bestiary.catalogue.entry import CatalogueEntry

_VAE_LAPTOP = {
    "network": "infogan",
    "channels": 32,
    "latent_dim": 10,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "batch_size": 50,
}

ENTRIES = (
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
        laptop={**_VAE_LAPTOP, "max_grad_norm": 1000.0},
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
)
