"""Precision, recall and F1 on the convex polygons, whose manifold is known: no features, no neighbours."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bestiary.config import check_count
from bestiary.data.polygons import SIDE, SUBPIXELS, area_range, corners
from bestiary.errors import DataError, OptionError
from bestiary.metrics.features import Array, protocol
from bestiary.metrics.neighbours import nearest_neighbours

_BANK = 4096  # polygons among which a fit's starts are sought
_STARTS, _STEPS = 8, 8  # fits of each image, and steps after which
_KEPT, _MORE_STEPS = 2, 16  # the best go on
_CHUNK = 8  # images at a time: what a step touches stays in the processor's cache
_DECODED = 64  # codes that are decoded at a time
_SOUGHT = 64  # images that are sought at a time
_SIFTED = 10  # steps after which descents of images that were reached end
_ORIGIN = (1 - SUBPIXELS // 2 - 0.5) / SUBPIXELS  # where pixel (0, 0) begins in rows and columns


@dataclass(frozen=True)
class PrecisionRecallF1:
    """Precision, recall and their harmonic mean in [0, 1], each with one standard error.

    Attributes:
        n_real: test images that were sought among what the model can draw.
        n_fake: samples whose distance to the polygons was measured.
        protocol: the metric's full name.
    """

    precision: float
    recall: float
    f1: float
    precision_error: float
    recall_error: float
    f1_error: float
    n_real: int
    n_fake: int
    protocol: str


def precision_recall_f1(
    *,
    real: Array,
    latents: Tensor,
    decode: Callable[[Tensor], Tensor],
    vertices: int = 3,
    delta: float = 0.75,
    restarts: int = 4,
    steps: int = 200,
    learning_rate: float = 0.05,
) -> PrecisionRecallF1:
    """Precision and recall of a generator of polygons against the known manifold M of all polygons.

        precision = share of samples G(z) with min_{m ∈ M} ‖G(z) − m‖² ≤ δ
        recall = share of test images x with min_z ‖x − G(z)‖² ≤ δ,   F1 = 2PR/(P + R)

    Both minima are sought, so both numbers are lower bounds: see `polygon_distance` for the first. For the
    second Adam takes `steps` steps from each of the `restarts` codes, among `latents`, whose images are
    nearest to x. Codes are kept within the range of `latents`, coordinate by coordinate: what lies beyond
    it the model does not draw.

    The errors are binomial deviations; that of F1 follows to first order.

    References: *Are GANs Created Equal? A Large-Scale Study* (Lucic et al., 2018), arXiv 1711.10337.

    Arguments:
        real: test images, float in [0, 1], shape (n, 1, 28, 28).
        latents: draws from the model's prior, shape (m, …) with m ≥ restarts; G of each is a sample.
        decode: G, differentiable, maps codes (B, …) to images (B, 1, 28, 28) in [0, 1], each by itself.
        vertices: corners of the polygons.
        delta: δ, on squared distances.
        restarts: descents for each test image.
        steps: of Adam in each.
        learning_rate: of Adam, in standard deviations of `latents`.

    Raises:
        DataError: images of another shape or range, or fewer codes than restarts.
        OptionError: a δ, or a number of restarts or steps, that is not above zero; a G without gradient.
    """
    if not (delta > 0 and restarts >= 1 and steps >= 1):
        raise OptionError(
            f"delta, restarts, steps: found {delta:g}, {restarts} and {steps}, wanted numbers above zero"
        )
    x = _checked("real", real)
    if len(latents) < restarts:
        raise DataError(f"latents: found {len(latents)} codes, wanted at least {restarts}, one per restart")
    with torch.no_grad():
        samples = _checked("decode", torch.cat([decode(z).cpu() for z in latents.split(_DECODED)]))
    fits = polygon_distance(samples, vertices=vertices)
    on_manifold = (fits <= delta).double().mean().item()
    _, near = nearest_neighbours(queries=x.flatten(1), references=samples.flatten(1), k=restarts)
    reached = torch.cat(
        [
            _reached(part.flatten(1), latents[start], latents, decode, delta, steps, learning_rate)
            for part, start in zip(x.split(_SOUGHT), near.split(_SOUGHT), strict=True)
        ]
    )
    return _result(on_manifold, reached.double().mean().item(), len(x), len(samples), vertices, delta)


def polygon_distance(images: Array, *, vertices: int = 3) -> Tensor:
    """Squared distance of each image to the nearest polygon; inf where that is no polygon of the data.

    All corners are free: a moved, turned or stretched polygon is a polygon. But its area must be between
    half the smallest and twice the largest of the data's, or a blank image would be one (without area).

    The minimum of ‖x − render(v)‖² over the corners v is sought by the Levenberg–Marquardt method with exact
    derivatives, from the 8 nearest of 4,096 polygons of the data's law in any rotation: 8 steps from each,
    and 16 more from the 2 that are best then. (The problem is one of least squares in few unknowns: L-BFGS
    finds the same minima in ten times as long.) The distance found is an upper bound.

    Arguments:
        images: float in [0, 1], shape (n, 1, 28, 28).
        vertices: corners of the polygons.

    Returns:
        Shape (n,), float64. Real polygons are at 0.006 on average, the grain of 64 points per pixel.

    Raises:
        DataError: images of another shape or range.
        OptionError: fewer than three corners.
    """
    check_count("vertices", vertices, least=3)
    x = _checked("images", images).flatten(1)
    smallest, largest = area_range(vertices)
    bank, drawn = _bank(vertices)
    _, near = nearest_neighbours(queries=x, references=drawn, k=_STARTS)
    found = []
    for target, start in zip(x.split(_CHUNK), near.split(_CHUNK), strict=True):
        fitted, squares = _fit(target, bank[start], _STEPS)
        best = squares.topk(_KEPT, largest=False).indices
        kept = fitted.gather(1, best[..., None, None].expand(-1, -1, *bank.shape[1:]))
        fitted, squares = _fit(target, kept, _MORE_STEPS)
        area = _area(fitted)
        squares[(area < smallest / 2) | (area > 2 * largest)] = torch.inf
        found.append(squares.amin(dim=1))
    return torch.cat(found)


@lru_cache(maxsize=1)
def _bank(vertices: int) -> tuple[Tensor, Tensor]:
    """Polygons of the data's law in any rotation, (4096, V, 2), and their images, float32, (4096, 784)."""
    u = np.random.default_rng(0).random((_BANK, vertices + 1))
    bank = torch.from_numpy(corners(u, faithful=False))
    return bank, torch.cat([render(part).float().flatten(1) for part in bank.split(64)])


def render(polygons: Tensor) -> Tensor:
    """Images of polygons as the data draw them, but with the exact area in place of 64 points per pixel.

    Arguments:
        polygons: corners (row, column) in pixels, counterclockwise, shape (B, V, 2); gradients flow to them.

    Returns:
        1 outside and 0 inside, shape (B, 1, 28, 28).
    """
    return 1 - _Portions(polygons).inside().view(-1, 1, SIDE, SIDE)


class _Portions:
    """The portion of each edge that lies in each pixel: t₀ ≤ t ≤ t₁ of the points a + t (b − a).

    Attributes:
        corner, edge: a and b − a, (B, V, 2), where pixel (0, 0) begins at the origin.
        length: t₁ − t₀, (B, V, 28, 29); the last column is all that lies beyond the right border.
        moment: ∫ t dt over the portion, of the same shape.
    """

    def __init__(self, polygons: Tensor) -> None:
        self.corner = polygons - _ORIGIN
        edge = self.corner.roll(-1, dims=1) - self.corner
        self.edge = torch.where(edge.abs() < 1e-9, 1e-9, edge)  # a line is never parallel to an edge
        lines = torch.arange(SIDE + 2, dtype=polygons.dtype)
        lines[-1] = 1e6  # far beyond the image
        at = (lines[:, None] - self.corner[:, :, None]) / self.edge[:, :, None]  # (B, V, lines, 2)
        lower, upper = (bound(at[:, :, :-1], at[:, :, 1:]) for bound in (torch.minimum, torch.maximum))
        rows, columns = (..., slice(SIDE), None, 0), (..., None, slice(None), 1)
        start = torch.maximum(lower[rows], lower[columns]).clamp(0, 1)
        end = torch.minimum(upper[rows], upper[columns]).clamp(0, 1)
        self.length = (end - start).clamp_min(0)
        self.moment = self.length * (start + end) / 2

    def inside(self) -> Tensor:
        """The share of each pixel that lies inside, (B, 784): −∮ clip(column − c, 0, 1) d row."""
        down, right = self.edge[..., None, None].unbind(dim=2)
        before = self.corner[:, :, 1, None, None] - torch.arange(SIDE + 1)
        within = (down * (before * self.length + right * self.moment)).sum(dim=1)
        passed = (down * self.length).sum(
            dim=1
        )  # (B, 28, 29), of which all that is further right counts whole
        beyond = passed.flip(2).cumsum(dim=2).flip(2) - passed
        return -(within + beyond)[..., :SIDE].flatten(1)

    def jacobian(self) -> Tensor:
        """Derivatives of `inside` by the corners, (B, 2 V, 784): what each portion sweeps outwards."""
        length, of_second = (x[..., :SIDE].flatten(2)[:, :, None] for x in (self.length, self.moment))
        normal = torch.stack([self.edge[..., 1], -self.edge[..., 0]], dim=2)[..., None]
        return (normal * (length - of_second) + (normal * of_second).roll(1, dims=1)).flatten(1, 2)


def _fit(targets: Tensor, starts: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Levenberg–Marquardt from K polygons (B, K, V, 2) towards each image (B, 784).

    Returns the polygons and their ‖residual‖², (B, K).
    """
    target, polygons = targets.repeat_interleave(starts.shape[1], dim=0), starts.flatten(0, 1)
    squares, normal, gradient = _normal_equations(polygons, target)
    damping = torch.full_like(squares, 1e-2)
    for _ in range(steps):
        damped = damping[:, None] * (normal.diagonal(dim1=1, dim2=2) + 1e-6)
        step = torch.linalg.solve(normal + torch.diag_embed(damped), gradient)
        moved = polygons - step.view_as(polygons).clamp(-2, 2)  # at most two pixels at a time
        new_squares, new_normal, new_gradient = _normal_equations(moved, target)
        better = new_squares < squares
        polygons = torch.where(better[:, None, None], moved, polygons)
        normal = torch.where(better[:, None, None], new_normal, normal)
        gradient = torch.where(better[:, None], new_gradient, gradient)
        squares = torch.where(better, new_squares, squares)
        damping = torch.where(better, damping / 5, damping * 5).clamp(1e-6, 1e6)
    return polygons.view_as(starts), squares.view(starts.shape[:2])


def _normal_equations(polygons: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """‖r‖² (B,), JJᵀ (B, 2 V, 2 V) and Jr (B, 2 V) of the residual r = target − (1 − inside)."""
    portions = _Portions(polygons)
    residual, jacobian = portions.inside() - 1 + target, portions.jacobian()
    return residual.square().sum(dim=1), jacobian @ jacobian.mT, (jacobian @ residual[..., None])[..., 0]


def _area(polygons: Tensor) -> Tensor:
    x, y = polygons.unbind(dim=-1)
    return (x * y.roll(-1, dims=-1) - y * x.roll(-1, dims=-1)).sum(dim=-1) / 2


def _reached(
    x: Tensor,
    start: Tensor,
    latents: Tensor,
    decode: Callable[[Tensor], Tensor],
    delta: float,
    steps: int,
    learning_rate: float,
) -> Tensor:
    """Whether ‖x − G(z)‖² ≤ δ on a descent from codes (B, restarts, …) for images x (B, 784), bool (B,)."""
    low, high = latents.amin(dim=0), latents.amax(dim=0)
    found = torch.zeros(len(x), dtype=torch.bool)
    image = torch.arange(len(x)).repeat_interleave(start.shape[1])  # which one each descent is for
    z = start.flatten(0, 1).clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=learning_rate * latents.std().item())
    for step in range(steps + 1):
        squares = (decode(z).flatten(1) - x[image].to(latents)).square().sum(dim=1)
        if not squares.requires_grad:
            raise OptionError("decode: found images without a gradient, wanted G without torch.no_grad()")
        found[image[squares.detach().cpu() <= delta]] = True
        if step == steps or found.all():
            break
        (z.grad,) = torch.autograd.grad(squares.sum(), z)
        optimizer.step()
        with torch.no_grad():
            z.clamp_(low, high)
        if step % _SIFTED == 0:
            going = ~found[image]
            z, image = _some(z, going.to(z.device), optimizer), image[going]
    return found


def _some(z: Tensor, kept: Tensor, optimizer: torch.optim.Adam) -> Tensor:
    """Some rows of a parameter in place of it, with their part of Adam's state."""
    fewer = z.detach()[kept].requires_grad_()
    state = optimizer.state.pop(z)
    optimizer.state[fewer] = {k: v[kept] if v.shape == z.shape else v for k, v in state.items()}
    optimizer.param_groups[0]["params"] = [fewer]
    return fewer


def _result(p: float, r: float, n_real: int, n_fake: int, vertices: int, delta: float) -> PrecisionRecallF1:
    p_error, r_error = math.sqrt(p * (1 - p) / n_fake), math.sqrt(r * (1 - r) / n_real)
    f1 = f1_error = 0.0
    if p + r:
        f1 = 2 * p * r / (p + r)
        f1_error = 2 * math.hypot(r**2 * p_error, p**2 * r_error) / (p + r) ** 2
    name = protocol(
        "polygon-precision-recall", "pixels", n_real, n_fake, f"vertices={vertices}", f"delta={delta:g}"
    )
    return PrecisionRecallF1(p, r, f1, p_error, r_error, f1_error, n_real, n_fake, name)


def _checked(name: str, images: Array) -> Tensor:
    x = torch.as_tensor(images).detach().cpu()
    if x.ndim != 4 or x.shape[1:] != (1, SIDE, SIDE) or not len(x):
        raise DataError(f"{name}: found shape {tuple(x.shape)}, wanted images (n, 1, {SIDE}, {SIDE})")
    if not (x.is_floating_point() and x.amin() >= -1e-4 and x.amax() <= 1 + 1e-4):
        found = f"from {x.amin():g} to {x.amax():g}" if x.is_floating_point() else f"of type {x.dtype}"
        raise DataError(f"{name}: found values {found}, wanted floats in [0, 1]")
    return x.double()
