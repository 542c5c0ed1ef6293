"""What people do with a trained model, and what they look at in one."""

from bestiary.tasks.completions import (
    MASKS,
    Completed,
    ConditionalLikelihood,
    complete,
    completion_picture,
    conditional_bits,
    observed_pixels,
)
from bestiary.tasks.examples import read_images
from bestiary.tasks.likelihood_maps import (
    Drift,
    bit_plane_map,
    bit_planes,
    free_running,
    log_prob_map,
)
from bestiary.tasks.probe import linear_probe, pooled_activations
from bestiary.tasks.receptive_fields import ReceptiveField, receptive_field
from bestiary.tasks.traversals import latent_traversals

__all__ = [
    "MASKS",
    "Completed",
    "ConditionalLikelihood",
    "Drift",
    "ReceptiveField",
    "bit_plane_map",
    "bit_planes",
    "complete",
    "completion_picture",
    "conditional_bits",
    "free_running",
    "latent_traversals",
    "linear_probe",
    "log_prob_map",
    "observed_pixels",
    "pooled_activations",
    "read_images",
    "receptive_field",
]
