"""What the figures of docs/numbers.md show: each metric on cases whose truth is known.

Each public function measures one figure and returns what goes into figures.json.
"""

import math
import warnings
from functools import cached_property

import numpy as np
import torch
from fashion_mnist_metrics import blurred, features_of, noisy
from figure_cases_known import plain, seeded
from scipy.ndimage import gaussian_filter
from sklearn.cluster import MiniBatchKMeans
from torch.nn import functional as F

from bestiary import load_data, metrics
from bestiary.distributions.gaussian import gaussian_log_prob

N = 4000  # images of each set
SIZES = (250, 500, 1000, 2000, 4000, 10_000)
LOWER_IS_BETTER = ("frechet", "kernel", "memorisation")


class Clothes:
    """Sets of Fashion-MNIST images with known faults, and their features."""

    def __init__(self):
        self.data = load_data("fashion-mnist")
        self.test = self.levels(self.data.test[:].x)
        self.labels = self.data.test.labels

    @staticmethod
    def levels(x):
        """Images as a file would hold them."""
        return x.clamp(0, 1).mul(255).round().to(torch.uint8)

    @cached_property
    def network(self):
        return metrics.embedding("efficientnet-lite0")

    @cached_property
    def classifier(self):
        return metrics.embedding("classifier", data=self.data)

    def images(self, name):
        """The uint8 images of a set, all of them or more than are taken."""
        if name == "real":  # what the others are compared with
            return self.levels(self.data.validation[:].x)
        if name == "copies":
            return self.levels(self.data.train[:N].x)
        if name == "mirrored copies":
            return self.images("copies").flip(3)
        if name == "noise":
            return self.levels(noisy(0.1)(self.test[:N] / 255))
        if name == "blur":
            return self.levels(blurred(self.test[:N] / 255))
        return self.test  # of which the other sets are parts

    def features(self, name, network="network"):
        """Features of a set, from the cache if they were ever computed."""
        kept = {"real": "validation", "copies": "train, real"}
        kept |= {name: f"test, {name}" for name in ("mirrored copies", "noise", "blur")}
        label = kept.get(name, "test")
        features = features_of(self.images(name), label, self.data, getattr(self, network))
        if name == "one image a class":
            first = torch.stack([(self.labels == c).nonzero()[0, 0] for c in range(10)])
            return features[first.repeat(N // 10)]
        dropped = {"1 class dropped": 1, "5 classes dropped": 5}.get(name, 0)
        return features[self.labels >= dropped][:N] if dropped else features

    def probabilities(self, name):
        """By the classifier that is trained on the data's own labels."""
        return self.classifier.classify(self.features(name, "classifier"))


CASES = (
    "other real", "copies", "one image a class", "1 class dropped", "5 classes dropped", "blur", "noise"
)  # fmt: skip


def overview(clothes):
    """Every metric on every case: value, error, and the verdict beside other real images."""
    table = {case: battery(clothes, case) for case in CASES}
    floor = table["other real"]
    return {
        "n": N,
        "table": {
            case: {name: [*score, verdict(name, score, floor[name])] for name, score in scores.items()}
            for case, scores in table.items()
        },
    }


def verdict(name, score, floor):
    """Whether a score is better or worse than real images', by more than three standard errors."""
    (value, error), (wanted, of_wanted) = score, floor
    change = wanted - value if name in LOWER_IS_BETTER else value - wanted
    sure = 3 * math.hypot(error or 0, of_wanted or 0)
    return "better" if change > sure else "worse" if change < -sure else "same"


def battery(clothes, case):
    real, fake = clothes.features("real")[:N], clothes.features(case)[:N]
    curve = metrics.precision_recall_curve(real=real, fake=fake)
    manifold, counted = metrics.precision_recall_density_coverage(real=real, fake=fake)
    p = clothes.probabilities(case)[:N]
    classes = metrics.class_coverage(probabilities=p)
    copied = metrics.memorisation(train=clothes.features("copies"), held_out=real, fake=fake)
    shuffled = p[torch.randperm(N, generator=seeded())]
    return {
        "frechet": plain(metrics.frechet_distance(real=real, fake=fake)),
        "kernel": plain(metrics.kernel_distance(real=real, fake=fake, subsets=20)),
        "inception": plain(metrics.inception_score(probabilities=shuffled)),
        "prd-f1/8": plain(curve.score(1 / 8)),
        "prd-f8": plain(curve.score(8)),
        "precision": [manifold.precision, manifold.precision_error],
        "recall": [manifold.recall, manifold.recall_error],
        "density": [counted.density, counted.density_error],
        "coverage": [counted.coverage, counted.coverage_error],
        "classes": [classes.value, None],
        "memorisation": plain(copied),
    }


def sizes(clothes):
    """The same two laws at different sample sizes."""
    found = {name: {} for name in ("frechet", "extrapolated", "kernel", "manifold", "inception")}
    for case in ("other real", "1 class dropped"):
        real, fake = clothes.features("real"), clothes.features(case)
        for n in SIZES:
            if n > len(fake):
                continue
            pair = {"real": real[:n], "fake": fake[:n]}
            key = f"{case} {n}"
            found["frechet"][key] = plain(metrics.frechet_distance(**pair))
            found["kernel"][key] = plain(metrics.kernel_distance(**pair, subsets=10))
            if n >= 2000:
                found["extrapolated"][key] = plain(metrics.frechet_distance(**pair, extrapolate=True))
            if case != "other real":
                continue
            manifold, counted = metrics.precision_recall_density_coverage(**pair)
            found["manifold"][key] = [
                manifold.precision, manifold.recall, counted.density, counted.coverage
            ]  # fmt: skip
            p = clothes.network.classify(fake[:n])
            found["inception"][key] = plain(metrics.inception_score(probabilities=p))
    return found


def same_moments(clothes):
    """A Gaussian cloud with the mean and covariance of real features: no image has such features."""
    real, other = clothes.features("real")[:N], clothes.features("other real")
    statistics = metrics.FeatureStatistics().update(other)
    root = torch.linalg.cholesky(statistics.covariance)
    cloud = statistics.mean + torch.randn(N, len(root), generator=seeded(), dtype=torch.float64) @ root.T
    found = {}
    for name, fake in (
        ("other real", other[:N]),
        ("gaussian", cloud.float()),
        ("noise", clothes.features("noise")),
    ):
        manifold, counted = metrics.precision_recall_density_coverage(real=real, fake=fake)
        found[name] = {
            "frechet": plain(metrics.frechet_distance(real=real, fake=fake)),
            "kernel": plain(metrics.kernel_distance(real=real, fake=fake, subsets=20)),
            "precision": [manifold.precision, manifold.precision_error],
            "coverage": [counted.coverage, counted.coverage_error],
        }
    return found


def few_broken(clothes):
    """Among real images a share of noisy ones: its kernel distance is that of all noisy ones times share²."""
    real, good, bad = (clothes.features(name)[:N] for name in ("real", "other real", "noise"))
    found = {}
    for share in (0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1):
        broken = round(share * N)
        fake = torch.cat([bad[:broken], good[broken:]])
        found[share] = {
            "kernel": plain(metrics.kernel_distance(real=real, fake=fake, subsets=20)),
            "frechet": plain(metrics.frechet_distance(real=real, fake=fake)),
        }
    return found


def prd(clothes):
    """Curves where precision and recall are known, and what the number of clusters does to them."""
    real = clothes.features("real")[:N]
    curves, by_clusters = {}, {}
    for case in ("other real", "5 classes dropped", "noise"):
        fake = clothes.features(case)[:N]
        curve = metrics.precision_recall_curve(real=real, fake=fake, angles=201)
        curves[case] = [curve.recall.tolist(), curve.precision.tolist()]
        for clusters in (2, 5, 10, 20, 50, 100, 200, 500):
            curve = metrics.precision_recall_curve(
                real=real, fake=fake, clusters=clusters, runs=2, angles=201
            )
            by_clusters.setdefault(case, {})[clusters] = [curve.f_beta(1 / 8), curve.f_beta(8)]
    return {"curves": curves, "by_clusters": by_clusters}


def memorisation(clothes):
    """Samples of which a known share are training images, exact or mirrored; the others were never seen."""
    unseen, m = clothes.features("other real"), 2000
    pixels = {
        name: clothes.images(name)[:N].flatten(1).float()
        for name in ("real", "copies", "mirrored copies", "other real")
    }
    found = {"exact": {}, "mirrored": {}, "mirrored, pixels": {}, "frechet": {}}
    for share in (0, 0.1, 0.25, 0.5, 0.75, 1):
        copied = round(share * m)

        def mixed(copies, others, copied=copied):
            return torch.cat([copies[:copied], others[copied:m]])

        about = {"train": clothes.features("copies"), "held_out": clothes.features("real")[:N]}
        exact = mixed(about["train"], unseen)
        mirrored = mixed(clothes.features("mirrored copies"), unseen)
        found["exact"][share] = plain(metrics.memorisation(**about, fake=exact))
        found["mirrored"][share] = plain(metrics.memorisation(**about, fake=mirrored))
        of_pixels = metrics.memorisation(
            train=pixels["copies"],
            held_out=pixels["real"],
            fake=mixed(pixels["mirrored copies"], pixels["other real"]),
        )
        found["mirrored, pixels"][share] = plain(of_pixels)
        found["frechet"][share] = plain(metrics.frechet_distance(real=about["held_out"], fake=exact))
    return found


def parzen(clothes):
    """Windows around samples of known worth, and around draws of Gaussians whose log p(x) is known."""
    train = clothes.data.train[:10_000].x.flatten(1)
    kmeans = MiniBatchKMeans(2000, init="random", n_init=1, max_iter=8, batch_size=4096, random_state=0)
    kmeans.fit(clothes.data.train[:].x.flatten(1).numpy())
    centres = torch.from_numpy(kmeans.cluster_centers_).float()
    candidates = {
        "real": train,
        "centres": centres,
        "blur": blurred(train.view(-1, 1, 28, 28)).flatten(1),
        "noise": noisy(0.1)(train).clamp(0, 1),
    }
    about = {
        "real": clothes.data.test[:5000].x.flatten(1),
        "validation": clothes.data.validation[:1000].x.flatten(1),
    }
    rows, known = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that the number is worth little, which is what is shown
        for name, fake in candidates.items():
            found = metrics.parzen_window(**about, fake=fake)
            rows[name] = [*plain(found), found.sigma]
        for d in (2, 10, 100):
            # Standard normal, so that the true mean of log p(x) is that of the draws.
            x, validation = (torch.randn(1000, d, generator=seeded(s), dtype=torch.float64) for s in (1, 2))
            true = gaussian_log_prob(x).mean().item()
            for m in (100, 300, 1000, 3000, 10_000, 30_000):
                fake = torch.randn(m, d, generator=seeded(3), dtype=torch.float64)
                found = metrics.parzen_window(
                    real=x, validation=validation, fake=fake, sigmas=tuple(np.logspace(-1, 0.2, 13))
                )
                known.setdefault(d, {})[m] = found.value - true
    return {"rows": rows, "below_the_truth": known}


def paired(clothes, n=200):
    """Four ways to spoil an image that cost it the same PSNR: that of a shift by one pixel."""
    x = clothes.data.test[:n].x
    shifted = F.pad(x, (1, 0, 0, 0))[..., :-1]
    wanted = (shifted - x).square().flatten(1).mean(dim=1)
    noise = torch.randn(x.shape, generator=seeded())

    def blur(strength):
        pairs = zip(x.numpy(), strength.tolist(), strict=True)
        return torch.stack([torch.from_numpy(gaussian_filter(image, (0, s, s))) for image, s in pairs])

    spoiled = {
        "shifted": shifted,
        "darker": spoil(lambda s: x * (1 - s.view(-1, 1, 1, 1)), x, wanted, 1.0),
        "noise": spoil(lambda s: (x + s.view(-1, 1, 1, 1) * noise).clamp(0, 1), x, wanted, 2.0),
        "blur": spoil(blur, x, wanted, 8.0),
    }
    rows = {
        name: {
            "psnr": plain(metrics.psnr(real=x, fake=y)),
            "ssim": plain(metrics.ssim(real=x, fake=y)),
            "lpips": plain(metrics.lpips(real=x, fake=y, network="vgg")),
        }
        for name, y in spoiled.items()
    }
    images = {"original": x[0], **{name: y[0] for name, y in spoiled.items()}}
    return {
        "n": n,
        "rows": rows,
        "images": {name: clothes.levels(y)[0].tolist() for name, y in images.items()},
    }


def spoil(change, x, wanted, most):
    """Images change(strength) whose squared errors are the wanted ones, by bisection of each strength."""
    low, high = torch.zeros(len(x)), torch.full((len(x),), most)
    for _ in range(20):
        middle = (low + high) / 2
        less = (change(middle) - x).square().flatten(1).mean(dim=1) < wanted
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    return change(low)
