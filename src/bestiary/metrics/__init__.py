"""Metrics: features → statistics → number. Arrays in, numbers out; nothing here knows a model.

Each function takes keyword-only `real=` and `fake=` features of shape (n, d) (or class `probabilities=`),
computes in float64, draws from the generator it is given, and returns a small frozen result that says
how sure it is and how it was measured. `embedding(name)` gives the network that turns images into features.
"""

from bestiary.metrics.classes import ClassCoverage, class_coverage, inception_score
from bestiary.metrics.embeddings import ClassifierEmbedding, Embedding, embedding
from bestiary.metrics.frechet import frechet_distance
from bestiary.metrics.kernel import kernel_distance
from bestiary.metrics.manifold import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    manifold_precision_recall,
)
from bestiary.metrics.memorisation import Memorisation, memorisation
from bestiary.metrics.neighbours import nearest_neighbours
from bestiary.metrics.prd import PrecisionRecallCurve, precision_recall_curve
from bestiary.metrics.results import Score
from bestiary.metrics.statistics import FeatureStatistics

__all__ = [
    "ClassCoverage",
    "ClassifierEmbedding",
    "DensityCoverage",
    "Embedding",
    "FeatureStatistics",
    "Memorisation",
    "PrecisionRecall",
    "PrecisionRecallCurve",
    "Score",
    "class_coverage",
    "density_coverage",
    "embedding",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "manifold_precision_recall",
    "memorisation",
    "nearest_neighbours",
    "precision_recall_curve",
]
