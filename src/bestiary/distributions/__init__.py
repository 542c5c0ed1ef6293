"""Distributions: log-probabilities in nats."""

from bestiary.distributions.hyperspherical_uniform import HypersphericalUniform
from bestiary.distributions.logistic_mixture import DiscretizedLogisticMixture
from bestiary.distributions.von_mises_fisher import VonMisesFisher

__all__ = ["DiscretizedLogisticMixture", "HypersphericalUniform", "VonMisesFisher"]
