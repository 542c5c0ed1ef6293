"""The figures of docs/numbers.md, from what figure_cases.py and figure_cases_known.py found."""

import math

import numpy as np
from figure_style import (
    AMBER,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    SKY,
    TRUE,
    WIDTH,
    bare,
    curve,
    log_ticks,
    panels,
    percent,
    rows,
    say,
    series,
    ticks,
    two,
)
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from bestiary.report.figures import INK, MUTED

CASES = {
    "other real": "other real\nimages",
    "copies": "training set,\ncopied",
    "one image a class": "one image\nper class",
    "1 class dropped": "1 class of\n10 dropped",
    "5 classes dropped": "5 classes\ndropped",
    "blur": "blurred by\n1 pixel",
    "noise": "noise of\ndeviation .1",
}
METRICS = {
    "frechet": ("Fréchet distance ↓", "{:.0f}"),
    "kernel": ("kernel distance ↓", "{:z.3f}"),
    "inception": ("Inception Score ↑", "{:.2f}"),
    "prd-f1/8": ("PRD precision, F1/8 ↑", "{:.3f}"),
    "prd-f8": ("PRD recall, F8 ↑", "{:.3f}"),
    "precision": ("precision ↑", "{:.2f}"),
    "recall": ("recall ↑", "{:.2f}"),
    "density": ("density ↑", "{:.2f}"),
    "coverage": ("coverage ↑", "{:.2f}"),
    "classes": ("classes found ↑", "{:.0f}"),
    "memorisation": ("memorisation ↓", "{:z.2f}"),
}
# Verdict beside other real images: fill, mark, meaning.
VERDICTS = {
    "worse": (GREEN, "", "worse than real images: it sees the fault"),
    "same": (None, "", "as real images"),
    "better": (ORANGE, " !", "better than real images"),
}
SIZES = (250, 1000, 4000, 10_000)


def overview(found):
    figure, (axes,) = panels(4.0, (1.6,), (5.55,), top=0.5, bottom=0.42)
    table = found["overview"]["table"]
    for y, (metric, (name, form)) in enumerate(METRICS.items()):
        axes.text(-0.12, y, name, ha="right", va="center")
        for x, case in enumerate(CASES):
            value, _, verdict = table[case][metric]
            fill, mark, _ = VERDICTS[verdict]
            tile(axes, x, y, 1, fill)
            words = form.format(value).replace("-", "−")
            about = {"weight": "bold"} if fill else {"color": INK if x == 0 else MUTED}
            axes.text(x + 0.5, y, words + mark, ha="center", va="center", **about)
    for x, name in enumerate(CASES.values()):
        axes.text(x + 0.5, -0.75, name, ha="center", va="bottom", fontsize=7.5)
    bottom, place = len(METRICS) + 0.35, 0.0
    for fill, mark, words in VERDICTS.values():
        tile(axes, place, bottom, 0.22, fill)
        axes.text(
            place + (0.3 if fill else 0.05), bottom, words + mark, va="center", fontsize=7.5, color=MUTED
        )
        place += 3.4 if not place else 1.35
    axes.axvline(1, color=MUTED, linewidth=0.7, ymax=0.99)
    axes.set(xlim=(0, len(CASES)), ylim=(len(METRICS) - 0.5, -0.5))
    bare(axes)
    return figure


def tile(axes, x, y, width, colour):
    if colour:
        about = {"color": colour, "alpha": 0.28, "linewidth": 0, "clip_on": False}
        axes.add_patch(Rectangle((x + 0.03, y - 0.45), width - 0.06, 0.9, **about))


def frechet(found):
    figure, left, right = two("at several sample sizes", "what a Gaussian cannot show", names=(0, 1.05))
    of_size = found["sizes"]["frechet"]
    curve(left, series(of_size, "1 class dropped"), ORANGE)
    curve(left, series(of_size, "other real"), BLUE)
    curve(left, series(found["sizes"]["extrapolated"], "other real"), GREEN)
    left.axhline(0, **TRUE)
    say(left, 0.28, 0.77, "1 class of 10 dropped", ORANGE)
    say(left, 0.03, 0.3, "other real\nimages", BLUE)
    say(left, 0.98, 0.36, "the same,\nextrapolated", GREEN, ha="right")
    say(left, 0.02, 0.06, "true for other real images: 0", size=7.5)
    left.set(ylabel="Fréchet distance", ylim=(-70, 480))
    log_ticks(left, SIZES, "images of each set, n")
    moments, table = found["same_moments"], found["overview"]["table"]
    cases = (
        ("other real images", moments["other real"], BLUE),
        ("no images: a cloud\nof equal moments", moments["gaussian"], PINK),
        ("1 class of 10\ndropped", table["1 class dropped"], ORANGE),
    )
    rows(right, [(name, *scores["frechet"][:2], colour) for name, scores, colour in cases])
    for y, (_, scores, _) in enumerate(cases):
        words = f"precision {scores['precision'][0]:.2f}"
        right.text(scores["frechet"][0], y + 0.22, words, ha="center", va="center", fontsize=7.5, color=MUTED)
    right.set(xlabel=f"Fréchet distance, n = {found['overview']['n']:,}", xlim=(0, 75))
    return figure


def kernel(found):
    figure, left, right = two("at several sample sizes", "noisy samples among real images")
    of_size = found["sizes"]["kernel"]
    curve(left, series(of_size, "1 class dropped"), ORANGE)
    curve(left, series(of_size, "other real"), BLUE)
    left.axhline(0, **TRUE)
    say(left, 0.35, 0.9, "1 class of 10 dropped", ORANGE)
    say(left, 0.5, 0.14, "other real images", BLUE)
    left.set(ylabel="kernel distance")
    log_ticks(left, SIZES, "images of each set, n")
    mixed, p = found["few_broken"], np.linspace(0, 1, 50)
    whole = mixed["1"]["kernel"][0]
    right.plot(p, p, color=MUTED, linewidth=1, linestyle=":")
    right.plot(p, p**2, **TRUE)
    curve(
        right,
        {share: [v / whole for v in scores["kernel"]] for share, scores in mixed.items()},
        BLUE,
        line="",
    )
    say(right, 0.47, 0.58, "in proportion", MUTED, size=7.5, ha="right")
    say(right, 0.6, 0.25, "true: share²", size=7.5)
    right.set(xlabel="share of noisy samples", ylabel="part of the distance\nof noise alone")
    right.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    percent(right.xaxis, right.yaxis)
    return figure


def inception(found):
    figure, left, right = two("by the data's own classifier", "by ImageNet's 1,000 classes", names=(1.05, 0))
    table, names = found["overview"]["table"], {case: name.replace("\n", " ") for case, name in CASES.items()}
    chosen = ("other real", "copies", "one image a class", "5 classes dropped", "blur", "noise")
    colours = {"other real": BLUE}
    entries = [(names[c], *table[c]["inception"][:2], colours.get(c, ORANGE)) for c in chosen]
    rows(left, entries, floor=table["other real"]["inception"][0])
    left.set(xlabel=f"Inception Score, {found['overview']['n']:,} samples", xlim=(5, 10.2))
    ticks(left.xaxis, range(5, 11))
    curve(right, series(found["sizes"]["inception"], "other real"), BLUE)
    say(right, 0.3, 0.45, "real images", BLUE)
    right.set(ylabel="Inception Score", ylim=(0, 30))
    log_ticks(right, SIZES, "samples, n, in 10 parts")
    return figure


def prd(found):
    figure, left, right = two("with 20 clusters", "with other numbers of clusters", height=2.9)
    curves, by_clusters = found["prd"]["curves"], found["prd"]["by_clusters"]
    for case, colour in (("other real", BLUE), ("5 classes dropped", ORANGE), ("noise", PINK)):
        left.plot(*curves[case], color=colour, clip_on=False)
        curve(right, {k: f8 for k, (_, f8) in by_clusters[case].items()}, colour)
    left.plot([0, 0.5, 0.5], [1, 1, 0], **TRUE)
    say(left, 0.97, 0.8, "other real images", BLUE, ha="right")
    say(left, 0.47, 0.6, "5 of 10\nclasses dropped", ORANGE, ha="right")
    say(left, 0.17, 0.27, "noise", PINK)
    say(left, 0.53, 0.1, "true with 5\nclasses dropped", size=7.5)
    left.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision")
    right.axhline(65 * 0.5 / 64.5, **TRUE)  # F8 = 65 αβ/(64 α + β) at precision 1, recall ½
    say(right, 0.97, 0.89, "other real images", BLUE, ha="right")
    say(right, 0.36, 0.27, "noise", PINK)
    say(right, 0.97, 0.64, "5 classes dropped", ORANGE, ha="right")
    say(right, 0.97, 0.45, "true with 5 classes dropped", size=7.5, ha="right")
    right.set(ylim=(0, 1.02), ylabel="F8, the recall")
    log_ticks(right, (2, 5, 20, 100, 500), "clusters")
    return figure


def manifold(found):
    figure, left, right = two("50 real points, one far out", "other real images at several sizes", height=2.9)
    case = found["outlier"]
    for centre, radius in zip(case["real"], case["radius"], strict=True):
        left.add_patch(Circle(centre, radius, facecolor=BLUE, alpha=0.07, linewidth=0))
    left.plot(*np.transpose(case["real"]), "o", color=BLUE, markersize=2.4)
    left.plot(*np.transpose(case["fake"]), "s", color=ORANGE, markersize=2.4)
    left.add_patch(Circle(case["real"][0], case["radius"][0], fill=False, edgecolor=BLUE, linewidth=0.8))
    say(left, 0.98, 0.82, "samples", ORANGE, size=7.5, ha="right")
    say(left, 0.62, 0.46, "the outlier", BLUE, size=7.5, ha="center")
    say(left, 0.2, 0.26, "real points", BLUE, size=7.5, ha="center")
    scores = "".join(f"{name} {case[name]:.2f}\n" for name in ("precision", "density", "coverage"))
    say(left, 0.6, 0.2, scores.strip(), va="top")
    left.set(xlim=(-3.6, 12), ylim=(-6.6, 5.6), aspect="equal", anchor="W")
    bare(left)
    values = series(found["sizes"]["manifold"], "other real")
    looks = (
        ("precision", BLUE, 0.4),
        ("recall", SKY, 0.2),
        ("density", ORANGE, 0.9),
        ("coverage", GREEN, 0.68),
    )
    for i, (name, colour, height) in enumerate(looks):
        curve(right, {n: v[i] for n, v in values.items()}, colour)
        say(right, 0.97, height, name, colour, ha="right")
    right.set(ylim=(0.7, 1.15), ylabel="score")
    log_ticks(right, SIZES, "images of each set, n")
    return figure


def memorisation(found):
    figure, left, right = two("copies among new images", "the same samples, by the Fréchet distance")
    found = found["memorisation"]
    left.plot([0, 1], [0, 1], **TRUE)
    curve(left, found["mirrored, pixels"], ORANGE)
    curve(left, found["mirrored"], GREEN)
    curve(left, found["exact"], BLUE, line="")
    say(left, 0.56, 0.82, "exact copies", BLUE, ha="right")
    say(left, 0.56, 0.93, "mirrored, by features", GREEN, ha="right")
    say(left, 0.98, 0.17, "mirrored, by pixels", ORANGE, ha="right")
    left.set(xlabel="share of copies", ylabel="memorisation", xlim=(0, 1), ylim=(-0.1, 1.02))
    curve(right, found["frechet"], BLUE)
    say(right, 0.5, 0.85, "exact copies", BLUE, ha="center")
    highest = max(value for value, _ in found["frechet"].values())
    right.set(xlabel="share of copies", ylabel="Fréchet distance", xlim=(0, 1), ylim=(0, 1.4 * highest))
    percent(left.xaxis, right.xaxis)
    return figure


def modes(found):
    figure, left, right = two("2,500 samples, most in one of 25 modes", "true samples that count as good")
    uneven = {share: v for share, v in found["modes"]["uneven"].items() if float(share)}
    curve(left, {share: v["modes"][0] for share, v in uneven.items()}, BLUE)
    curve(left, {share: 25 * math.exp(-v["reverse_kl"][0]) for share, v in uneven.items()}, ORANGE)
    say(left, 0.3, 0.97, "modes found", BLUE)
    say(left, 0.72, 0.42, "as many even modes:\n25 exp(−reverse KL)", ORANGE, ha="right")
    left.set(ylabel="modes", ylim=(0, 28))
    log_ticks(left, (), "share of samples in the other 24 modes")
    ticks(left.xaxis, (0.01, 0.05, 0.2, 0.96), "{:.0%}")
    radius = found["modes"]["radius"]
    for rule, colour in (("same mass", BLUE), ("10σ", ORANGE), ("3σ", PINK)):
        curve(right, {k: v[rule] for k, v in radius.items()}, colour)
    say(right, 0.75, 0.86, "the ball of\n3σ's mass", BLUE)
    say(right, 0.69, 0.5, "within 10σ", ORANGE)
    say(right, 0.44, 0.12, "within 3σ", PINK)
    right.set(ylim=(-0.02, 1.05), ylabel="share of quality")
    percent(right.yaxis)
    log_ticks(right, (2, 10, 50, 200, 700), "dimensions of the mode")
    return figure


def likelihood(found):
    figure, left, right = two("linear-Gaussian decoder", "garbage among perfect samples", height=2.8)
    found = found["likelihood"]
    curve(left, found["weighted_from_prior"], PINK)
    curve(left, found["weighted"], GREEN)
    for side, colour in (("lower", BLUE), ("upper", AMBER)):
        curve(left, {cost: bounds[side] for cost, bounds in found["annealed"].items()}, colour)
    left.plot([1], [found["elbo"]], marker="*", markersize=8, color=INK)
    left.axhline(0, **TRUE)
    say(left, 0.02, 0.38, "ELBO", size=7.5)
    say(left, 0.2, 0.66, "importance-weighted\nby an encoder", GREEN, size=7.5, va="bottom")
    say(left, 0.4, 0.28, "importance-weighted\nfrom the prior", PINK, size=7.5, ha="center")
    say(left, 0.8, 0.3, "annealed", BLUE, size=7.5)
    say(left, 0.56, 0.92, "from above", AMBER, size=7.5, ha="right")
    left.set_yscale("symlog", linthresh=0.1, linscale=0.6)
    left.set(ylabel="nats above log p(x)", ylim=(-1200, 30))
    ticks(left.yaxis, (-1000, -100, -10, -1, -0.1, 0.1, 1, 10), "{:+g}")
    log_ticks(left, (1, 10, 100, 1000, 10_000, 100_000), "evaluations of p(x|z) for each example")
    ticks(left.xaxis, (1, 100, 10_000), "{:,g}")
    good = np.logspace(0, -3, 31)
    for dimensions, colour in ((784, BLUE), (3072, GREEN)):
        right.plot(good, -np.log2(good) / dimensions, color=colour)
    say(right, 0.66, 0.68, "28 × 28, grey", BLUE, ha="right")
    say(right, 0.97, 0.27, "32 × 32, colour", GREEN, ha="right")
    right.set(ylabel="bits/dim lost, at most", ylim=(0, 0.016))
    log_ticks(right, (), "share of samples that are garbage")
    right.set_xlim(1, 1e-3)
    ticks(right.xaxis, (1, 0.1, 0.01, 0.001), lambda value: f"{100 * (1 - value):.4g} %")
    return figure


def parzen(found):
    figure, left, right = two("windows around …", "windows around true samples", names=(0.95, 0))
    found = found["parzen"]
    looks = (
        ("real", "10,000 real\nimages", BLUE),
        ("centres", "2,000 k-means\ncentres", ORANGE),
        ("blur", "the real ones,\nblurred", ORANGE),
        ("noise", "the real ones,\nnoisy", ORANGE),
    )
    entries = [(name, *found["rows"][key][:2], colour) for key, name, colour in looks]
    rows(left, entries, floor=found["rows"]["real"][0])
    left.set_xlabel("Parzen estimate for test images, nats")
    for d, colour, height in (("2", BLUE, 0.88), ("10", GREEN, 0.75), ("100", ORANGE, 0.36)):
        curve(right, found["below_the_truth"][d], colour)
        say(right, 0.97, height, f"{d} dimensions", colour, ha="right")
    right.axhline(0, **TRUE)
    right.set_ylabel("nats above the truth")
    log_ticks(right, (100, 1000, 10_000), "samples")
    return figure


def paired(found):
    figure, found = Figure(figsize=(WIDTH, 2.3)), found["paired"]
    names = {"shifted": "shifted by a pixel", "blur": "blurred"}
    best = {"psnr": "∞", "ssim": "1", "lpips": "0"}
    forms = {"psnr": ("PSNR, dB ↑", "{:.1f}"), "ssim": ("SSIM ↑", "{:.2f}"), "lpips": ("LPIPS ↓", "{:.2f}")}
    for column, case in enumerate(("original", "shifted", "darker", "noise", "blur")):
        left = 0.85 + 1.28 * column
        axes = figure.add_axes((left / WIDTH, 0.92 / 2.3, 1.12 / WIDTH, 1.12 / 2.3))
        axes.imshow(found["images"][case], cmap="gray", vmin=0, vmax=255, interpolation="none")
        axes.set_title(names.get(case, case), fontsize=8.5, color=INK)
        bare(axes)
        for line, (metric, (_, form)) in enumerate(forms.items()):
            words = form.format(found["rows"][case][metric][0]) if case in found["rows"] else best[metric]
            figure.text((left + 0.56) / WIDTH, (0.7 - 0.24 * line) / 2.3, words, ha="center", va="center")
    for line, (words, _) in enumerate(forms.values()):
        figure.text(0.02, (0.7 - 0.24 * line) / 2.3, words, va="center", color=MUTED)
    return figure


def polygons(found):
    figure, (axes,) = panels(1.9, (1.35,), (4.6,), top=0.3)
    names = {"real": "triangles", "blur": "blurred over 3 × 3", "four corners": "four corners"}
    names |= {f"noise .0{i}": f"noise of deviation .0{i}" for i in (2, 4)}
    for y, case in enumerate(found["polygons"]):
        low, middle, high = found["polygons"][case]["quantiles"]
        colour = BLUE if case == "real" else ORANGE
        axes.plot([low, high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot([middle], [y], "o", color=colour, markersize=5)
        row = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8}
        axes.text(-0.02, y, names[case], ha="right", **row)
        axes.text(1.02, y, f"precision {found['polygons'][case]['precision']:.2f}", **row)
    axes.axvline(0.75, **TRUE)
    axes.text(0.75, -0.62, "δ = 0.75", ha="center", va="bottom", fontsize=7.5)
    log_ticks(axes, (0.01, 0.1, 1, 10), "squared distance to the nearest triangle")
    axes.set(ylim=(4.5, -0.5), yticks=[])
    axes.spines["left"].set_visible(False)
    return figure


# What a reader who does not see the figure is told.
FIGURES = {
    overview: "Eleven metrics on seven sets of images with known faults",
    frechet: "Fréchet distance against the sample size, and that of a Gaussian cloud",
    kernel: "Kernel distance against the sample size, and against the share of noisy samples",
    inception: "Inception Score of sets with known faults, and against the sample size",
    prd: "Precision–recall curves, and F8 against the number of clusters",
    manifold: "An outlier whose ball holds all samples; scores of real images against the sample size",
    memorisation: "Memorisation and Fréchet distance against the share of copies",
    modes: "Modes found against the share outside one mode; quality against the dimension",
    likelihood: "Bounds on a known likelihood against their cost; bits/dim against the share of garbage",
    parzen: "Parzen estimates of sets of known worth, and of known Gaussians",
    paired: "An image spoiled in four ways, with PSNR, SSIM and LPIPS",
    polygons: "Distances of images to the nearest triangle",
}
