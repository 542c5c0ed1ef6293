"""Likelihood estimators where the answer is known, and on a trained VAE.

    python benchmarks/likelihood.py --out benchmarks/likelihood.json

First a linear-Gaussian decoder, z in R^10, x = Wz + b + .3 ε in R^50 with W of N(0, 1/10), whose log p(x) is
known: annealed importance sampling, the bidirectional bound, importance-weighted bounds from the prior. Then
a VAE of the laptop preset on Fashion-MNIST, binarised dynamically, that is trained first (or `--run FOLDER`).
"""

import argparse
import json
import math
import platform
import tempfile
import time
from pathlib import Path

import torch
from torch.distributions import MultivariateNormal

import bestiary
from bestiary.distributions.gaussian import gaussian_kl, gaussian_log_prob
from bestiary.metrics import active_units, annealed_log_likelihood, bidirectional_bound, standard_normal
from bestiary.objectives.bounds import importance_weighted_bound

PARTS = ["linear", "vae", "vae-gap"]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def plain(score):
    return {"value": score.value, "error": score.error, "protocol": score.protocol}


def linear(n, temperatures, seed):
    draw = seeded(seed)
    W = torch.randn(50, 10, generator=draw, dtype=torch.float64) / math.sqrt(10)
    b = torch.randn(50, generator=draw, dtype=torch.float64)
    marginal = MultivariateNormal(b, W @ W.T + 0.09 * torch.eye(50, dtype=torch.float64))

    def log_likelihood(z, x):
        return gaussian_log_prob(x, z @ W.T + b, math.log(0.3))

    def simulate(z, generator):
        return z @ W.T + b + 0.3 * torch.randn(len(z), 50, generator=generator, dtype=torch.float64)

    about = {"log_likelihood": log_likelihood, "prior": standard_normal(10), "treatment": "density"}
    about |= {"temperatures": temperatures}
    x = simulate(torch.randn(n, 10, generator=draw, dtype=torch.float64), draw)
    exact = marginal.log_prob(x)
    start = time.process_time()
    annealed = annealed_log_likelihood(x, **about, generator=seeded(seed + 1))
    seconds = time.process_time() - start
    off = annealed.per_example - exact
    gap = bidirectional_bound(n, simulate=simulate, **about, generator=seeded(seed + 2))

    precision = torch.eye(10, dtype=torch.float64) + W.T @ W / 0.09
    covariance = torch.linalg.inv(precision)
    posterior = MultivariateNormal((x - b) @ W @ covariance / 0.09, covariance)
    z = (
        posterior.loc
        + torch.randn(16, n, 10, generator=draw, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    )
    weights = gaussian_log_prob(z) + log_likelihood(z, x) - posterior.log_prob(z)
    bounds = {}
    for particles in (1, 10, 100, 1000, 10_000):
        parts = []
        for rows in x.split(20):
            z = torch.randn(particles, len(rows), 10, generator=draw, dtype=torch.float64)
            parts.append(importance_weighted_bound(log_likelihood(z, rows)))
        bounds[particles] = float(torch.cat(parts).mean())
    mu, log_sigma = posterior.loc, -0.5 * precision.diagonal().log().expand(n, 10)  # the best factorised q
    spread = ((2 * log_sigma).exp() @ W.square().T / 0.09).sum(dim=1) / 2
    elbo = log_likelihood(mu, x) - spread - gaussian_kl(mu, log_sigma)
    q = MultivariateNormal(mu, torch.diag_embed((2 * log_sigma).exp()))
    return {
        "examples": n,
        "exact": float(exact.mean()),
        "annealed": plain(annealed),
        "annealed_less_exact": {"value": float(off.mean()), "error": float(off.std()) / math.sqrt(n)},
        "acceptance": annealed.acceptance,
        "effective_chains": annealed.effective_chains,
        "cpu_seconds": seconds,
        "bidirectional_gap": plain(gap),
        "importance_weighted_from_the_prior": bounds,
        "deviation_of_log_weights_from_the_exact_posterior": float(weights.std(dim=0).max()),
        "elbo_less_exact_plus_divergence": float(
            (elbo - exact + torch.distributions.kl_divergence(q, posterior)).abs().max()
        ),
    }


def train(budget, folder):
    data = bestiary.load_data("fashion-mnist-dynamic")
    model = bestiary.create("vae", spec=data.spec, seed=0, preset="laptop")
    bestiary.train(model, data, budget=budget, out=folder, seed=0, precision="float32")


class Trained:
    """The trained VAE as the callables that the estimators take."""

    def __init__(self, folder, temperatures, chains):
        self.data = bestiary.load_data("fashion-mnist-dynamic")
        self.model = bestiary.load(folder).eval().to(memory_format=torch.channels_last)  # 40 % faster here
        self.about = {
            "log_likelihood": self.log_likelihood,
            "prior": standard_normal(self.model.latent_dim),
            "treatment": "log mass of 2 levels",
            "temperatures": temperatures,
            "chains": chains,
        }

    def log_likelihood(self, z, x):
        return self.model.observation.log_prob(self.model.decoder(z.float()), x)

    def simulate(self, z, generator):
        with torch.no_grad():
            return self.model.observation.draw(self.model.decoder(z.float()), generator)


def images(trained, n, particles, seed):
    model, x = trained.model, trained.data.test[:n].x
    elbo = torch.stack([model.elbo(x, generator=seeded(seed + i)).double() for i in range(200)]).mean(dim=0)
    start = time.process_time()
    parts = [
        model.log_prob_bound(x, particles=particles // 10, generator=seeded(seed + i)).double()
        for i in range(10)
    ]
    weighted = importance_weighted_bound(torch.stack(parts))
    weighted_seconds = time.process_time() - start
    start = time.process_time()
    annealed = annealed_log_likelihood(x, **trained.about, generator=seeded(seed))
    seconds = time.process_time() - start
    means = torch.cat([model.encode(batch.x) for batch in trained.data.test.batches(500)])
    off = annealed.per_example - weighted
    return {
        "examples": n,
        "elbo": float(elbo.mean()),
        f"importance_weighted_{particles}": float(weighted.mean()),
        "annealed": plain(annealed),
        "annealed_less_elbo": {
            "mean": float((annealed.per_example - elbo).mean()),
            "least": float((annealed.per_example - elbo).min()),
        },
        "annealed_less_importance_weighted": {
            "mean": float(off.mean()),
            "error": float(off.std()) / math.sqrt(n),
            "least": float(off.min()),
            "most": float(off.max()),
        },
        "acceptance": annealed.acceptance,
        "effective_chains": annealed.effective_chains,
        "cpu_seconds": {"annealed": seconds, "importance_weighted": weighted_seconds},
        "active_units": plain(active_units(means=means)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file, added to what it holds")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--examples", type=int, default=200, help="of the linear decoder")
    parser.add_argument("--temperatures", type=int, default=1000, help="of the linear decoder")
    parser.add_argument("--run", help="folder of the VAE; trained where there is none yet")
    parser.add_argument("--budget", default="200k examples", help="to train the VAE")
    parser.add_argument("--images", type=int, default=8, help="test images, and simulated ones")
    parser.add_argument("--vae-temperatures", type=int, default=300)
    parser.add_argument("--vae-chains", type=int, default=8)
    parser.add_argument("--particles", type=int, default=5000)
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    found |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}

    def keep(part, result):
        found[part] = result
        options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        print(json.dumps({part: result}, indent=1, ensure_ascii=False))

    if "linear" in options.parts:
        keep("linear", linear(options.examples, options.temperatures, seed=0))
    if options.parts == ["linear"]:
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(options.run or f"{folder}/vae")
        if not run.exists():
            train(options.budget, run)
        trained = Trained(run, options.vae_temperatures, options.vae_chains)
        if "vae" in options.parts:
            result = images(trained, options.images, options.particles, seed=0)
            keep("vae", {"budget": options.budget} | result)
        if "vae-gap" in options.parts:
            about = trained.about | {"simulate": trained.simulate, "generator": seeded(1)}
            gap = bidirectional_bound(options.images, **about)
            side = {"lower": float(gap.lower.mean()), "upper": float(gap.upper.mean())}
            keep("vae-gap", plain(gap) | side | {"per_example": (gap.upper - gap.lower).tolist()})


if __name__ == "__main__":
    main()
