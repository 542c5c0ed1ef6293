"""What the figures of docs/numbers.md show, where no images of clothes are needed: see figure_cases.py."""

import math

import torch
from scipy.stats import chi2
from torch.distributions import MultivariateNormal
from torch.nn import functional as F

from bestiary import load_data, metrics
from bestiary.data import grid_centres
from bestiary.distributions.gaussian import gaussian_kl, gaussian_log_prob
from bestiary.objectives.bounds import importance_weighted_bound


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def plain(score):
    return [score.value, score.error]


def outlier():
    """A single outlier among 50 real points, and samples nowhere near them; samples that are too wide."""
    real = torch.randn(50, 2, generator=seeded(1), dtype=torch.float64)
    real[0] = torch.tensor([6.0, 0.0])
    fake = torch.tensor([8.2, 1.8]) + 0.35 * torch.randn(50, 2, generator=seeded(2), dtype=torch.float64)
    distances = torch.cdist(real, real).sort(dim=1).values
    manifold, counted = metrics.precision_recall_density_coverage(real=real, fake=fake)
    return {
        "real": real.tolist(),
        "fake": fake.tolist(),
        "radius": distances[:, 3].tolist(),
        "precision": manifold.precision,
        "density": counted.density,
        "coverage": counted.coverage,
        "wide": wide(),
    }


def wide(n=1000):
    """In 64 dimensions, samples that are spread three times as far as the real points."""
    real, fake = (scale * torch.randn(n, 64, generator=seeded(scale)) for scale in (1, 3))
    manifold, counted = metrics.precision_recall_density_coverage(real=real, fake=fake)
    names = ("precision", "recall")
    return {name: getattr(manifold, name) for name in names} | {"coverage": counted.coverage}


def modes():
    """A grid whose first mode gets nearly all samples; and what a radius means in many dimensions."""
    centres, n = grid_centres(), 2500
    uneven = {}
    for share in (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.96):
        generator = seeded()
        elsewhere = torch.rand(n, generator=generator) < share
        mode = torch.where(elsewhere, torch.randint(1, 25, (n,), generator=generator), 0)
        fake = centres[mode] + 0.05 * torch.randn(n, 2, generator=generator)
        found = metrics.mode_coverage(fake=fake, centres=centres, sigma=0.05)
        uneven[share] = {"modes": plain(found), "reverse_kl": plain(found.reverse_kl)}
    radius = {}
    for k in (2, 5, 10, 20, 50, 100, 200, 400, 700):
        points = torch.randn(10_000, k, generator=seeded(k))
        found = metrics.mode_coverage(fake=points, centres=torch.zeros(1, k), sigma=1)
        radius[k] = {"same mass": found.quality.value, "3σ": chi2.cdf(9, k), "10σ": chi2.cdf(100, k)}
    point = metrics.mode_coverage(fake=centres.repeat(100, 1), centres=centres, sigma=0.05)
    return {"uneven": uneven, "radius": radius, "quality_of_bare_centres": point.quality.value}


def likelihood(examples=50):
    """Bounds on a linear-Gaussian decoder, z in R^10, x = Wz + b + .3 ε in R^50, whose log p(x) is known.

    Costs are evaluations of p(x|z) for each example; q is the best Gaussian of independent coordinates.
    """
    draw, sigma = seeded(), 0.3
    W = torch.randn(50, 10, generator=draw, dtype=torch.float64) / math.sqrt(10)
    b = torch.randn(50, generator=draw, dtype=torch.float64)
    marginal = MultivariateNormal(b, W @ W.T + sigma**2 * torch.eye(50, dtype=torch.float64))

    def log_likelihood(z, x):
        return gaussian_log_prob(x, z @ W.T + b, math.log(sigma))

    x = torch.empty(0)

    def simulate(z, generator):
        nonlocal x
        x = z @ W.T + b + sigma * torch.randn(len(z), 50, generator=generator, dtype=torch.float64)
        return x

    prior, chains, leapfrog = metrics.standard_normal(10), 16, 10
    annealed = {}
    for temperatures in (10, 30, 100, 300, 1000):
        # The generator draws the same examples each time, first of all.
        found = metrics.bidirectional_bound(
            examples, simulate=simulate, log_likelihood=log_likelihood, prior=prior, treatment="density",
            temperatures=temperatures, chains=chains, leapfrog=leapfrog, generator=seeded(1),
        )  # fmt: skip
        exact = marginal.log_prob(x)
        annealed[chains * leapfrog * temperatures] = {
            "lower": (found.lower - exact).mean().item(),
            "upper": (found.upper - exact).mean().item(),
        }
    precision = torch.eye(10, dtype=torch.float64) + W.T @ W / sigma**2
    mu = (x - b) @ W @ torch.linalg.inv(precision) / sigma**2
    log_sigma = -0.5 * precision.diagonal().log()
    spread = ((2 * log_sigma).exp() * W.square()).sum() / (2 * sigma**2)
    elbo = log_likelihood(mu, x) - spread - gaussian_kl(mu, log_sigma.expand_as(mu))
    weighted, from_prior = {}, {}
    for particles in (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000):
        noise = torch.randn(particles, *mu.shape, generator=draw, dtype=torch.float64)
        z = mu + log_sigma.exp() * noise
        weights = log_likelihood(z, x) + gaussian_log_prob(z) - gaussian_log_prob(z, mu, log_sigma)
        weighted[particles] = (importance_weighted_bound(weights) - exact).mean().item()
        from_prior[particles] = (importance_weighted_bound(log_likelihood(noise, x)) - exact).mean().item()
    return {
        "exact": exact.mean().item(),
        "elbo": (elbo - exact).mean().item(),
        "weighted": weighted,
        "weighted_from_prior": from_prior,
        "annealed": annealed,
    }


def polygons(n=100):
    """Squared distances to the triangles, of images that are triangles and of some that are not."""
    x = load_data("triangles").validation[:n].x
    squares = load_data("triangles", vertices=4).validation[:n].x
    cases = {
        "real": x,
        "noise .02": (x + 0.02 * torch.randn(x.shape, generator=seeded())).clamp(0, 1),
        "noise .04": (x + 0.04 * torch.randn(x.shape, generator=seeded())).clamp(0, 1),
        "blur": F.avg_pool2d(F.pad(x, [1] * 4, value=1), 3, 1),
        "four corners": squares,
    }
    found = {}
    for name, images in cases.items():
        distances = metrics.polygon_distance(images)
        found[name] = {
            "quantiles": distances.quantile(torch.tensor([0.05, 0.5, 0.95]).double()).tolist(),
            "precision": (distances <= 0.75).double().mean().item(),
        }
    return found
