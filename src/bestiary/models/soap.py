"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class SOAP(Optimizer):
    """Adam whose second moments are kept in the directions in which gradients vary, not weight by weight.

    The weight of a layer is a matrix of its outputs by its inputs (and taps, of a convolution) with gradient
    G. Running means L of GGᵀ and R of GᵀG have the eigenvectors Q_L and Q_R, refreshed at every
    `refresh`-th step by one step of power iteration. The step is Adam's for Q_LᵀGQ_R, turned back. Biases
    and other vectors have Adam itself, and a side longer than `longest` is not turned. The first gradient
    only starts the means.

    Source:
        *SOAP: Improving and Stabilizing Shampoo using Adam* (Vyas et al., 2024), arXiv 2409.11321,
        algorithms 3 and 4; constants are those of its code, whose weight decay is .01.

    Arguments:
        parameters: float, of any shape.
        lr: learning rate.
        betas: decay of the mean gradient, and of its squares and of L and R.
        eps: added to the root of the squares.
        refresh: steps between two refreshments of the eigenvectors.
        weight_decay: of each weight a step takes away this share, times the learning rate.
        longest: side that has a basis, whose cost grows with the third power.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        refresh: int = 10,
        weight_decay: float = 0.0,
        longest: int = 2048,
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "refresh": refresh, "weight_decay": weight_decay}
        super().__init__(parameters, settings)
        self._longest = longest

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all parameters that have a gradient; what `closure` computes before, if any, is returned."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, **{k: v for k, v in group.items() if k != "params"})
        return loss

    def _move(
        self,
        parameter: Tensor,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        refresh: int,
        weight_decay: float,
    ) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.reshape(len(parameter), -1) if parameter.ndim else parameter.grad.view(1, 1)
        state = self.state[parameter]
        if not state:
            state.update(step=0, mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
            if min(gradient.shape) > 1:
                for side, product in self._products(gradient):
                    state[side] = (1 - betas[1]) * product
                    # LAPACK may fail where rows are exactly zero, as those of masked taps are
                    tiny = 1e-30 * torch.eye(len(product), dtype=product.dtype, device=product.device)
                    vectors = torch.linalg.eigh(state[side] + tiny).eigenvectors
                    state[f"{side}_basis"] = vectors.flip(1).contiguous()
            return
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - betas[0])
        state["square"].lerp_(_turned(gradient, state).square(), 1 - betas[1])
        correction = (1 - betas[1] ** state["step"]) ** 0.5 / (1 - betas[0] ** state["step"])
        move = _turned(state["mean"], state) / state["square"].sqrt().add_(eps)
        parameter.sub_(lr * correction * _turned_back(move, state).view_as(parameter))
        parameter.mul_(1 - lr * weight_decay)
        for side, product in self._products(gradient):
            if side in state:
                state[side].lerp_(product, 1 - betas[1])
                if state["step"] % refresh == 0:
                    _refresh(state, side)

    def _products(self, gradient: Tensor) -> Iterator[tuple[str, Tensor]]:
        """GGᵀ and GᵀG, of those sides that are not too long."""
        if gradient.shape[0] <= self._longest:
            yield "left", gradient @ gradient.T
        if gradient.shape[1] <= self._longest:
            yield "right", gradient.T @ gradient


def _turned(matrix: Tensor, state: dict[str, Any]) -> Tensor:
    matrix = state["left_basis"].T @ matrix if "left" in state else matrix
    return matrix @ state["right_basis"] if "right" in state else matrix


def _turned_back(matrix: Tensor, state: dict[str, Any]) -> Tensor:
    matrix = state["left_basis"] @ matrix if "left" in state else matrix
    return matrix @ state["right_basis"].T if "right" in state else matrix


def _refresh(state: dict[str, Any], side: str) -> None:
    """One power iteration of a basis, whose vectors, and the squares with them, stay sorted."""
    product = state[side] @ state[f"{side}_basis"]
    order = (state[f"{side}_basis"] * product).sum(0).argsort(descending=True)
    state["square"] = state["square"].index_select(0 if side == "left" else 1, order)
    # laid out by rows, as after a resume: products round otherwise by columns
    state[f"{side}_basis"] = torch.linalg.qr(product.index_select(1, order)).Q.contiguous()
