"""Rows of classical models, to compare with."""

from bestiary.catalogue.entry import CatalogueEntry

ENTRIES = (
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
)
