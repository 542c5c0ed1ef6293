"""Many processes that train one model, each on its share of every batch.

`torchrun` starts the processes ("ranks") and says in the environment how many there are. Modules are
never wrapped, because wrappers break gradient penalties: the loop averages a player's gradients just
before its optimiser steps, noise is drawn for the whole batch and every rank takes its share, and batch
norm takes its moments over all ranks, so that R ranks do what one process would do with the whole batch.
"""

import atexit
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bestiary.errors import BestiaryError, RunError

T = TypeVar("T")

# The others wait while the first rank draws samples and takes scores, which may take long.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone by default, when every method does nothing.

    Attributes:
        rank: number of this process, from 0; rank 0 alone writes and draws samples.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """The part of `count` examples that is this rank's."""
        size = count // self.size
        return slice(self.rank * size, (self.rank + 1) * size)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks, in one message for each number type."""
        if self.size == 1:
            return
        for _, group in groupby(sorted(tensors, key=_kind), key=_kind):
            parts = list(group)
            flat = torch.cat([t.detach().reshape(-1) for t in parts])
            dist.all_reduce(flat)
            flat /= self.size
            for part, mean in zip(parts, flat.split([t.numel() for t in parts]), strict=True):
                part.detach().copy_(mean.view(part.shape))

    def largest(self, value: float) -> float:
        """The largest of the ranks' values: a decision that all of them know."""
        if self.size == 1:
            return value
        largest = torch.tensor([value], dtype=torch.float64, device=_device())
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return float(largest)

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by rank 0's."""
        if self.size > 1:
            for tensor in tensors:
                whole = tensor.detach().contiguous()
                dist.broadcast(whole, 0)
                tensor.detach().copy_(whole)

    def first(self, action: Callable[[], T]) -> T:
        """Rank 0 acts alone; all ranks get its result, or its mistake.

        Raises:
            BestiaryError: what rank 0 raised, on every rank.
        """
        if self.size == 1:
            return action()
        result: list[Any] = [None, None]
        if self.leads:
            try:
                result[0] = action()
            except BestiaryError as error:
                result[1] = error
        dist.broadcast_object_list(result, 0)
        if result[1] is not None:
            raise result[1]
        answer: T = result[0]
        return answer

    def prepare(self, model: nn.Module) -> None:
        """Give all ranks rank 0's weights, and batch norm the moments of the whole batch."""
        if self.size > 1:
            synchronise_batch_norm(model)
            self.same(t for t in model.state_dict().values() if isinstance(t, Tensor))


def join_ranks() -> Ranks:
    """The processes that `torchrun` has started, which wait here for each other; alone without it.

    Raises:
        RunError: the environment says that there are others, but they cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank())
        try:
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
        except (ValueError, RuntimeError) as error:
            line = " ".join(str(error).split())
            raise RunError(
                f"WORLD_SIZE: found {size}, but the other ranks cannot be reached ({line}):"
                " start all of them with torchrun"
            ) from error
        atexit.register(dist.destroy_process_group)
    return Ranks(dist.get_rank(), dist.get_world_size())


def local_rank() -> int:
    """The number of this process among those on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


ALONE = Ranks()


class RankBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose moments are those of the batch of all ranks, differentiable twice.

    Any shape (B, C, …). It has the parameters and buffers of `nn.BatchNorm1d` and `nn.BatchNorm2d`, and
    does what they do when it is not training.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input, same shape; moving averages follow with the unbiased variance."""
        if not (self.training and dist.is_initialized()):
            return super().forward(input)
        # under autocast the input may be bfloat16, whose sums would lose the moments
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = sum_over_ranks(x.sum(dims)) / count
        centred = x - mean.view(shape)
        variance = sum_over_ranks(centred.square().sum(dims)) / count
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
                unbiased = variance * (count / (count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)
        normalised = centred * (variance.view(shape) + self.eps).rsqrt()
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"input: found {input.ndim} dimensions, wanted (B, C, …)")


def synchronise_batch_norm(model: nn.Module) -> None:
    """Replace every batch norm in a model by one over all ranks, with the same parameters and buffers."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(child, RankBatchNorm):
                over_ranks = RankBatchNorm.__new__(RankBatchNorm)
                over_ranks.__dict__ = child.__dict__
                setattr(parent, name, over_ranks)


class _SumOverRanks(torch.autograd.Function):
    """Σ_r x_r on every rank. Each rank's cost depends on all x_r, so the gradient is summed likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return sum_over_ranks(gradients[0])


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of every rank's `x`, same shape; differentiable any number of times."""
    total: Tensor = _SumOverRanks.apply(x)  # type: ignore[no-untyped-call]
    return total


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype)


def _device() -> torch.device:
    return torch.device("cuda", local_rank()) if dist.get_backend() == "nccl" else torch.device("cpu")
