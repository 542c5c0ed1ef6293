"""zuko's normalising flows, without what importing zuko does to everybody else's distributions.

zuko turns argument checks off for all of torch.distributions, in the whole process; here they stay on.
"""

from importlib import import_module
from typing import Any

from torch.distributions import Distribution

_checked: bool = Distribution._validate_args
_flows: Any = import_module("zuko.flows")
Distribution.set_default_validate_args(_checked)

MaskedAutoregressiveTransform = _flows.MaskedAutoregressiveTransform
NSF = _flows.NSF
