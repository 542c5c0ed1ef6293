"""Mixtures of Gaussians in the space of the data, among them k-means with a likelihood."""

import math
import warnings
from typing import Annotated, Literal, Self

import torch
from torch import Tensor

from bestiary.config import Ge, Search
from bestiary.data.specs import Spec
from bestiary.data.splits import Data, Split, split_to_fit
from bestiary.errors import DataError
from bestiary.models.baseline.dequantised import ClosedFormDensity

_FLOOR = 1e-6  # of a variance, relative to the mean variance of the data: for points that lie in a plane

Covariance = Literal["diagonal", "full", "spherical"]


class GaussianMixture(ClosedFormDensity):
    r"""A component c of probability π_c, and the example from it, fitted by EM from the clusters of k-means:

    .. math::
        p(x) = \sum_{c=1}^K \pi_c \, N(x; \mu_c, \Sigma_c)

    Shapes and units: x (B, \*spec.shape), images in [0, 1]; log-likelihoods in nats, (B,). An image of L
    levels is read as (k + u)/L, u ~ U[0, 1). Its variance, 1/(12L²), is part of the fit and keeps every
    component from collapsing onto one image. The expected log-density over u is bounded from below in closed
    form, by

    .. math::
        \log \sum_c \exp E_u[\log \pi_c + \log N((k + u)/L; \mu_c, \Sigma_c)],

    which is tight where all u lead to the same component, as in images they nearly do.

    With covariance="spherical" and many components this is k-means with a likelihood: in many dimensions
    every example belongs to one component with near certainty, and the means are all but the centres of
    k-means.

    References:
        *Maximum Likelihood from Incomplete Data via the EM Algorithm* (Dempster, Laird & Rubin, 1977).
        *Pattern Recognition and Machine Learning* (Bishop, 2006), §9.2 and §9.3.2.

    Departures: samples of images are clipped to [0, 1]. Images go into EM as the middles of their levels,
    with the variance of u added in the M-step only.

    Arguments:
        spec: images or points.
        components: K.
        covariance: of each component: "diagonal" for a variance of each dimension, "full", or "spherical"
            for one variance. Full ones want many more examples of each component than dimensions, and take
            time and memory with the square of the dimensions.
        examples: the fit is on so many training examples drawn at random, or on all where there are fewer;
            each takes about 40 bytes a dimension of memory.
        iterations: EM ends after so many, or where the likelihood of an example rises by less than 10⁻³ nat.

    Example:
        >>> model = GaussianMixture(PointSpec(2), components=3)
        >>> model.sample(5).shape
        torch.Size([5, 2])
    """

    weights: Tensor
    means: Tensor
    scales: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        components: Annotated[int, Ge(1), Search(10, 500, log=True)] = 100,
        covariance: Covariance = "diagonal",
        examples: Annotated[int, Ge(2)] = 20_000,
        iterations: Annotated[int, Ge(1)] = 100,
    ) -> None:
        super().__init__(spec, name="gaussian-mixture")
        self.covariance, self.examples, self.iterations = covariance, examples, iterations
        k, d = components, spec.dimensions
        # float64: variances of single pixels span many magnitudes
        self.register_buffer("weights", torch.full((k,), 1 / k, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(k, d, dtype=torch.float64))
        # deviations, or the lower Cholesky factors of full covariances
        shape = {"full": (k, d, d), "diagonal": (k, d), "spherical": (k, 1)}[covariance]
        scales = torch.eye(d) if covariance == "full" else torch.ones(())
        self.register_buffer("scales", scales.double().expand(shape).clone())

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """Two components."""
        return cls(spec, components=2)

    @property
    def parameter_count(self) -> int:
        """Free numbers in π, μ and Σ."""
        k, d = self.means.shape
        each = d * (d + 1) // 2 if self.covariance == "full" else self.scales.shape[1]
        return k - 1 + k * (d + each)

    def fit(self, data: Split | Data, *, generator: torch.Generator | None = None) -> None:
        """Find π, μ and Σ by EM.

        Raises:
            DataError: fewer than two examples or than components, or points that do not vary.
        """
        data = split_to_fit(data)
        # Imported only here because scikit-learn takes a second to import.
        from sklearn import mixture
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        k = len(self.weights)
        if len(data) < max(2, k):
            raise DataError(f"data: found {len(data)} training examples, wanted at least {max(2, k)} to fit"
                            f" {k} components")  # fmt: skip
        generator = generator or torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(data), generator=generator)[: self.examples].sort().values
        y = self._continuous(data[chosen].x)
        floor = self.dither or _FLOOR * y.var(dim=0).mean().item()
        if floor == 0:
            raise DataError("data: found points that are all the same, gaussian-mixture wants some that vary")
        kind = {"diagonal": "diag"}.get(self.covariance, self.covariance)
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        em = mixture.GaussianMixture(
            k, covariance_type=kind, reg_covar=floor, max_iter=self.iterations, random_state=seed
        )
        with threadpool_limits(torch.get_num_threads()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            em.fit(y.numpy())
        if not em.converged_:
            warnings.warn(
                f"gaussian-mixture: EM had not converged after {self.iterations} iterations; iterations="
                " allows more",
                stacklevel=2,
            )
        covariances = torch.from_numpy(em.covariances_)
        self.weights.copy_(torch.from_numpy(em.weights_))
        self.means.copy_(torch.from_numpy(em.means_))
        full = self.covariance == "full"
        scales = torch.linalg.cholesky(covariances) if full else covariances.sqrt()
        self.scales.copy_(scales.view_as(self.scales))

    def sample(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `Sampler.sample`."""
        u = self.uniform(n, generator=generator).double()
        component = torch.searchsorted(self.weights.cumsum(0), u).clamp_max(len(self.weights) - 1)
        noise = self.normal(n, self.means.shape[1], generator=generator).double()
        if self.covariance == "full":
            for c in component.unique():
                noise[component == c] = noise[component == c] @ self.scales[c].T
        else:
            noise *= self.scales[component]
        return self._public(self.means[component] + noise)

    def _log_density(self, y: Tensor, *, spread: float) -> Tensor:
        return self._log_joint(y, spread=spread).logsumexp(dim=1)

    def _log_joint(self, y: Tensor, *, spread: float) -> Tensor:
        """E[log π_c + log N(y + e; μ_c, Σ_c)], e independent errors of variance `spread`, shape (B, K)."""
        d = y.shape[1]
        joint = y.new_empty(len(y), len(self.weights))
        for c, (mean, scale) in enumerate(zip(self.means, self.scales, strict=True)):
            if self.covariance == "full":
                # both at once: Σ^(−1/2) (y − μ), and Σ^(−1/2) for the trace of Σ⁻¹
                sides = torch.cat([(y - mean).T, torch.eye(d).to(y)], dim=1)
                white, root = torch.linalg.solve_triangular(scale, sides, upper=False).split([len(y), d], 1)
                squares, trace, log_root = (
                    white.square().sum(0),
                    root.square().sum(),
                    scale.diag().log().sum(),
                )
            else:
                deviation = scale.expand(d)
                squares = ((y - mean) / deviation).square().sum(1)
                trace, log_root = deviation.pow(-2).sum(), deviation.log().sum()
            joint[:, c] = -0.5 * (squares + spread * trace + d * math.log(2 * math.pi)) - log_root
        return joint + self.weights.log()
