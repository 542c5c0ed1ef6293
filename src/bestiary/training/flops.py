"""Counting floating-point operations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopCount(TorchDispatchMode):
    """Counts the operations of matrix products and convolutions in a block, forwards and backwards.

    It has torch's own formulas. `torch.utils.flop_counter.FlopCounterMode` would do the same, but follows
    modules by hooks that fail where a cost differentiates by its input, as every gradient penalty does.

    Attributes:
        total: a multiplication and an addition are two.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and add what it cost."""
        result = func(*args, **(kwargs or {}))
        formula: Callable[..., int] | None = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result
