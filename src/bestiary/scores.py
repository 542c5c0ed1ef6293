"""The table of metrics and of the scores they give: written by hand, and printed without importing torch.

A metric is what one asks for, and is spelt with hyphens: `inception-score`. A score is a number that comes of
it, a column of every table and file, and is spelt with underscores: `inception_score`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """What can be asked for.

    Attributes:
        of: what it judges: "samples" beside real examples, or the "model" itself on real examples.
        default: whether it is taken where nobody says which, if the data allow it.
    """

    of: Literal["samples", "model"]
    default: bool = True


METRICS: Mapping[str, Metric] = {
    "likelihood": Metric("model"),
    "frechet": Metric("samples"),
    "prd": Metric("samples"),
    "manifold": Metric("samples"),
    "modes": Metric("samples"),
    "classes": Metric("samples"),
    "memorisation": Metric("samples"),
    "active-units": Metric("model"),
    "reconstruction": Metric("model"),
    # As published it is a mean over 100 subsets of 1,000, which take 20 s on a laptop's core at any n.
    "kernel": Metric("samples", default=False),
    # Inception takes a tenth of a second or two an image there.
    "fid": Metric("samples", default=False),
    "kid": Metric("samples", default=False),
    # The classes of photographs say little of other images.
    "inception-score": Metric("samples", default=False),
    # A second for each example, and more.
    "annealed": Metric("model", default=False),
    # Minutes: every image of the data is sought among what the generator can draw.
    "polygons": Metric("model", default=False),
    # Worth nothing by itself: only to stand beside old tables.
    "parzen": Metric("samples", default=False),
}
# Those that need nothing but two sets of features, or of images.
FEATURE_METRICS = ("frechet", "kernel", "prd", "manifold", "inception-score")

DEFAULT_EMBEDDING = "efficientnet-lite0"
FID_NETWORK = "inception-2015-12-05"
EMBEDDINGS = (
    "classifier", DEFAULT_EMBEDDING, FID_NETWORK, "mobilenet-v2", "pixels", "vgg16-conv5-pool",
)  # fmt: skip
# On the FID's own network two metrics have names of their own, which nothing else may bear.
FID_NAMES = {"frechet": "fid", "kernel": "kid"}


@dataclass(frozen=True)
class ScoreInfo:
    """How to read one kind of score.

    Attributes:
        metric: the metric that gives it; one metric may give several scores.
        title: its name in a heading or a sentence.
        unit: of the value, "" for a pure number.
        better: which direction is better; "neither" for what describes a model and does not judge it.
        meaning: one sentence for somebody who has not met it.
        judges: of the samples their "fidelity", their "diversity" or "both"; "" for all other scores.
        main: whether it belongs to the few that the verdict rests on; the others stand in a second table.
        ranked: whether models are put in order by it; not where it repeats another score, or where only
            the distance to real data counts.
        beside: the score under whose value it stands in a table, where a model has that one too.
    """

    metric: str
    title: str
    unit: str
    better: Literal["lower", "higher", "neither"]
    meaning: str
    judges: Literal["", "fidelity", "diversity", "both"] = ""
    main: bool = False
    ranked: bool = True
    beside: str = ""


SCORES: Mapping[str, ScoreInfo] = {
    "bits_per_dim": ScoreInfo(
        "likelihood", "Bits per dimension", "bits/dim", "lower",
        "Negative log-likelihood of unseen data per pixel value: the bits that coding it with the model"
        " would cost.",
        main=True,
    ),
    "elbo_bits_per_dim": ScoreInfo(
        "likelihood", "ELBO per dimension", "bits/dim", "lower",
        "The negative evidence lower bound, what such models are trained on: a looser bound on bits/dim.",
        ranked=False, beside="bits_per_dim",
    ),
    "nats": ScoreInfo(
        "likelihood", "Negative log-likelihood", "nats", "lower",
        "The same likelihood for one whole example, in nats (bits/dim × dimensions × ln 2).",
        main=True, beside="bits_per_dim",
    ),
    "elbo_nats": ScoreInfo(
        "likelihood", "ELBO", "nats", "lower", "The negative evidence lower bound of one whole example.",
        ranked=False, beside="nats",
    ),
    "annealed_bits_per_dim": ScoreInfo(
        "annealed", "Annealed bits per dimension", "bits/dim", "lower",
        "The likelihood again, by annealed importance sampling, which asks the decoder alone; of so few"
        " examples that it compares only with the likelihood of the same ones.",
        ranked=False,
    ),
    "annealed_nats": ScoreInfo(
        "annealed", "Annealed negative log-likelihood", "nats", "lower",
        "Annealed importance sampling of one whole example, in nats.",
        ranked=False, beside="annealed_bits_per_dim",
    ),
    "frechet": ScoreInfo(
        "frechet", "Fréchet distance", "", "lower",
        "Distance between two Gaussians, one fitted to the features of real images, one to those of samples;"
        " it is not zero between two sets of real images, so that floor stands beside it.",
        "both", main=True,
    ),
    "fid": ScoreInfo(
        "fid", "FID", "", "lower",
        "The Fréchet distance on the features of the Inception network of 2015, with the bias of its sample"
        " size: published values take 10,000 samples or more.",
        "both", main=True,
    ),
    "frechet_extrapolated": ScoreInfo(
        "frechet", "Fréchet distance, n → ∞", "", "lower",
        "The Fréchet distance extrapolated to infinite samples, which takes most of its bias away; about 0"
        " for two sets of real images.",
        "both", ranked=False,
    ),
    "fid_extrapolated": ScoreInfo(
        "fid", "FID, n → ∞", "", "lower",
        "The FID extrapolated to infinite samples, which takes most of its bias away.",
        "both", ranked=False,
    ),
    "kernel": ScoreInfo(
        "kernel", "Kernel distance", "", "lower",
        "Squared distance of the mean features under a cubic kernel; without bias at any sample size, so 0"
        " on average for two sets of real images, and sometimes negative.",
        "both",
    ),
    "kid": ScoreInfo(
        "kid", "KID", "", "lower",
        "The kernel distance on the features of the Inception network of 2015.",
        "both",
    ),
    "prd_f8": ScoreInfo(
        "prd", "PRD recall (F8)", "", "higher",
        "How much of the real data the samples cover: the F-measure of the precision–recall curve that weighs"
        " recall 8 times as much as precision.",
        "diversity", main=True,
    ),
    "prd_f1_8": ScoreInfo(
        "prd", "PRD precision (F1/8)", "", "higher",
        "How much of what is sampled looks like real data: the F-measure of the same curve that weighs"
        " precision 8 times as much as recall.",
        "fidelity", main=True,
    ),
    "precision": ScoreInfo(
        "manifold", "Precision", "", "higher",
        "Share of the samples that lie in the ball around some real example that reaches to its third"
        " neighbour.",
        "fidelity",
    ),
    "recall": ScoreInfo(
        "manifold", "Recall", "", "higher",
        "Share of the real examples that lie in the ball around some sample that reaches to its third"
        " neighbour.",
        "diversity",
    ),
    "density": ScoreInfo(
        "manifold", "Density", "", "higher",
        "How many balls around real examples a sample lies in, beside what is expected of real ones: about 1"
        " for real data, more where samples crowd where real data are dense.",
        "fidelity",
    ),
    "coverage": ScoreInfo(
        "manifold", "Coverage", "", "higher",
        "Share of the real examples that have a sample among their nearest neighbours.",
        "diversity",
    ),
    "inception_score": ScoreInfo(
        "inception-score", "Inception Score", "", "higher",
        "How sure a network is of the class of each photograph, and how many classes there are; it never"
        " looks at the real data.",
        "both",
    ),
    "modes_found": ScoreInfo(
        "modes", "Modes found", "", "higher",
        "The modes of the data that at least one good sample is in; a single lucky sample counts.",
        "diversity", main=True,
    ),
    "mode_quality": ScoreInfo(
        "modes", "Share of good samples", "", "higher",
        "Samples that are as near to a mode as 98.9 % of the real ones.",
        "fidelity", main=True,
    ),
    "mode_forward_kl": ScoreInfo(
        "modes", "Divergence of modes, real ‖ sampled", "nats", "lower",
        "How far the shares of the modes among good samples are from equal; infinite where a mode is missed.",
        "diversity",
    ),
    "mode_reverse_kl": ScoreInfo(
        "modes", "Divergence of modes, sampled ‖ real", "nats", "lower",
        "The other divergence, finite where modes are missed too: the “KL” of published tables.",
        "diversity",
    ),
    "classes_found": ScoreInfo(
        "classes", "Classes found", "", "higher",
        "The classes that a classifier trained on real data finds in at least 2 % of the samples each.",
        "diversity", main=True,
    ),
    "class_confidence": ScoreInfo(
        "classes", "Class confidence", "", "higher",
        "The probability that this classifier gives to its own decision, averaged over the samples; blurred"
        " or mixed samples lower it.",
        "fidelity",
    ),
    "memorisation": ScoreInfo(
        "memorisation", "Memorisation", "", "lower",
        "Share of samples whose nearest real image is one the model was trained on, beyond chance: 0 for a"
        " model that has learnt the law, 1 for one that replays its training set.",
        main=True, ranked=False,
    ),
    "active_units": ScoreInfo(
        "active-units", "Active units", "", "neither",
        "Dimensions of the code whose mean tells examples apart; the rest carry nothing.",
        ranked=False,
    ),
    "psnr": ScoreInfo(
        "reconstruction", "PSNR of reconstructions", "dB", "higher",
        "How exactly unseen images come back from their codes: a longer code makes it easy, and it says"
        " nothing of samples.",
    ),
    "ssim": ScoreInfo(
        "reconstruction", "SSIM of reconstructions", "", "higher",
        "Structural similarity of unseen images and their reconstructions, 1 where they are equal.",
    ),
    "lpips": ScoreInfo(
        "reconstruction", "LPIPS of reconstructions", "", "lower",
        "How different unseen images and their reconstructions look, by a network that agrees with people.",
    ),
    "polygon_f1": ScoreInfo(
        "polygons", "F1 on polygons", "", "higher",
        "Harmonic mean of precision and recall against the known manifold of all polygons, without features.",
        "both", main=True,
    ),
    "polygon_precision": ScoreInfo(
        "polygons", "Precision on polygons", "", "higher",
        "Share of the samples that are within a squared distance of 0.75 of a polygon.",
        "fidelity",
    ),
    "polygon_recall": ScoreInfo(
        "polygons", "Recall on polygons", "", "higher",
        "Share of unseen images that the generator comes as near to from some code.",
        "diversity",
    ),
    "parzen": ScoreInfo(
        "parzen", "Parzen window", "nats", "higher",
        "Log-density of unseen data under a Gaussian window around each sample: can miss the log-likelihood"
        " by hundreds of nats and rank models wrongly, and only stands beside old tables.",
        ranked=False,
    ),
}  # fmt: skip
