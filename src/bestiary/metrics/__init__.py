"""Metrics: features → statistics → number. Arrays in, numbers out; nothing here knows a model.

Each function takes keyword-only `real=` and `fake=` features of shape (n, d) (or class `probabilities=`),
computes in float64, draws from the generator it is given, and returns a small frozen result that says
how sure it is and how it was measured. `embedding(name)` gives the network that turns images into features.
"""

from bestiary.metrics.active_units import ActiveUnits, active_units
from bestiary.metrics.annealed import (
    AnnealedLikelihood,
    BidirectionalBound,
    LatentPrior,
    annealed_log_likelihood,
    bidirectional_bound,
    standard_normal,
)
from bestiary.metrics.classes import ClassCoverage, class_coverage, inception_score
from bestiary.metrics.disentanglement import DCI, MutualInformationGap, SeparatedPredictability, dci, mig, sap
from bestiary.metrics.embeddings import ClassifierEmbedding, Embedding, embedding
from bestiary.metrics.fixed_factors import FactorVAEMetric, beta_vae_metric, factor_vae_metric
from bestiary.metrics.frechet import frechet_distance
from bestiary.metrics.kernel import kernel_distance
from bestiary.metrics.manifold import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    manifold_precision_recall,
    precision_recall_density_coverage,
)
from bestiary.metrics.memorisation import Memorisation, memorisation
from bestiary.metrics.modes import (
    ModeCoverage,
    channel_probabilities,
    mode_coverage,
    stacked_mode_coverage,
)
from bestiary.metrics.neighbours import nearest_neighbours
from bestiary.metrics.paired import PairedScore, lpips, psnr, ssim
from bestiary.metrics.parzen import ParzenWindow, parzen_window
from bestiary.metrics.polygons import PrecisionRecallF1, polygon_distance, precision_recall_f1
from bestiary.metrics.prd import PrecisionRecallCurve, precision_recall_curve
from bestiary.metrics.ranking import auroc
from bestiary.metrics.results import Score
from bestiary.metrics.statistics import FeatureStatistics
from bestiary.metrics.table import Table, score_features, score_files

__all__ = [
    "DCI",
    "ActiveUnits",
    "AnnealedLikelihood",
    "BidirectionalBound",
    "ClassCoverage",
    "ClassifierEmbedding",
    "DensityCoverage",
    "Embedding",
    "FactorVAEMetric",
    "FeatureStatistics",
    "LatentPrior",
    "Memorisation",
    "ModeCoverage",
    "MutualInformationGap",
    "PairedScore",
    "ParzenWindow",
    "PrecisionRecall",
    "PrecisionRecallCurve",
    "PrecisionRecallF1",
    "Score",
    "SeparatedPredictability",
    "Table",
    "active_units",
    "annealed_log_likelihood",
    "auroc",
    "beta_vae_metric",
    "bidirectional_bound",
    "channel_probabilities",
    "class_coverage",
    "dci",
    "density_coverage",
    "embedding",
    "factor_vae_metric",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "lpips",
    "manifold_precision_recall",
    "memorisation",
    "mig",
    "mode_coverage",
    "nearest_neighbours",
    "parzen_window",
    "polygon_distance",
    "precision_recall_curve",
    "precision_recall_density_coverage",
    "precision_recall_f1",
    "psnr",
    "sap",
    "score_features",
    "score_files",
    "ssim",
    "stacked_mode_coverage",
    "standard_normal",
]
