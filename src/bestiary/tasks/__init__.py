"""What people do with a trained model, and what they look at in one."""

from bestiary.tasks.aggregate_posterior import (
    AggregatePosterior,
    ElboSurgery,
    PriorHoles,
    RankedCodes,
    elbo_surgery,
    prior_holes,
)
from bestiary.tasks.anomalies import (
    ANOMALY_SCORES,
    RankedAnomalies,
    anomaly_picture,
    anomaly_score_names,
    anomaly_scores,
    choose_anomaly_score,
    class_aurocs,
    count_as_odd,
    png_bits,
    rank_anomalies,
)
from bestiary.tasks.arithmetic import add_attribute, attribute_direction
from bestiary.tasks.codes import codes_of, examples_of
from bestiary.tasks.completions import (
    MASKS,
    Completed,
    ConditionalLikelihood,
    complete,
    completion_picture,
    conditional_bits,
    observed_pixels,
)
from bestiary.tasks.examples import image_batches, open_images, read_images
from bestiary.tasks.fit_prior import fit_prior
from bestiary.tasks.interpolation import (
    PathName,
    code_path,
    example_pairs,
    interpolate,
    interpolate_codes,
    interpolation_picture,
    natural_path,
)
from bestiary.tasks.likelihood_maps import (
    Drift,
    bit_plane_map,
    bit_planes,
    free_running,
    log_prob_map,
)
from bestiary.tasks.probe import FewLabels, few_label_accuracy, linear_probe, pooled_activations
from bestiary.tasks.receptive_fields import ReceptiveField, receptive_field
from bestiary.tasks.traversals import latent_traversals

__all__ = [
    "ANOMALY_SCORES",
    "MASKS",
    "AggregatePosterior",
    "Completed",
    "ConditionalLikelihood",
    "Drift",
    "ElboSurgery",
    "FewLabels",
    "PathName",
    "PriorHoles",
    "RankedAnomalies",
    "RankedCodes",
    "ReceptiveField",
    "add_attribute",
    "anomaly_picture",
    "anomaly_score_names",
    "anomaly_scores",
    "attribute_direction",
    "bit_plane_map",
    "bit_planes",
    "choose_anomaly_score",
    "class_aurocs",
    "code_path",
    "codes_of",
    "complete",
    "completion_picture",
    "conditional_bits",
    "count_as_odd",
    "elbo_surgery",
    "example_pairs",
    "examples_of",
    "few_label_accuracy",
    "fit_prior",
    "free_running",
    "image_batches",
    "interpolate",
    "interpolate_codes",
    "interpolation_picture",
    "latent_traversals",
    "linear_probe",
    "log_prob_map",
    "natural_path",
    "observed_pixels",
    "open_images",
    "png_bits",
    "pooled_activations",
    "prior_holes",
    "rank_anomalies",
    "read_images",
    "receptive_field",
]
