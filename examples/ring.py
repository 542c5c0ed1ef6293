"""A GAN on a ring of eight Gaussians: which of them does it find? About a minute; writes ring.png.

Run it as `python examples/ring.py`.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import bestiary
from bestiary.data import ring_centres

SIGMA = 0.02  # standard deviation of each Gaussian


def main(budget: str = "4000 rounds", picture: Path = Path("ring.png")) -> None:
    data = bestiary.load_data("ring", sigma=SIGMA)
    settings = {"learning_rate": 1e-3, "beta1": 0.5, "batch_size": 256, "ema_half_life": 20_000.0}
    model = bestiary.create("ns-gan", spec=data.spec, **settings)
    run = bestiary.train(model, data, budget=budget)

    samples = run.model.sample(2000, generator=torch.Generator().manual_seed(0))
    distance, mode = torch.cdist(samples, ring_centres()).min(dim=1)
    near = distance < 3 * SIGMA
    counts = torch.bincount(mode[near], minlength=8)
    print(f"{run.folder}: {(counts > 0).sum()} of 8 modes found; {near.float().mean():.0%} of the samples")
    print(f"lie within 3 standard deviations of one: {counts.tolist()}")

    real = data.test[:2000].x
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    axes.scatter(*samples.T, s=3, color="C0", label="ns-gan")
    axes.scatter(*real.T, s=3, color="C1", label="real")
    axes.set_aspect("equal")
    axes.legend(loc="center")
    figure.savefig(picture, dpi=150)
    print(f"picture: {picture}")


if __name__ == "__main__":
    main()
