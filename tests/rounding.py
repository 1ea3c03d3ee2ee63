"""How far two float32 results may lie apart that differ only in the order of their arithmetic.

Every processor's kernels add in an order of their own, and batches that are cut differently do too. The bounds follow
from float32 and from the size of what is compared, so that they hold on every processor. The largest differences seen
under a dozen kernels (SSE to AVX-512, one and two threads) were a fifth of them, or less.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNIT = torch.finfo(torch.float32).eps
VALUE_UNITS = 32
"""What a network gives is the end of a few hundred roundings one after another, half a unit each and of either sign."""
GRADIENT_SHARE = 1e-5
"""Of the largest entry, about 80 units: a small entry is the sum of large ones, and has their rounding."""


def assert_same_values(ours: Tensor, theirs: Tensor) -> None:
    """Fail where log-probabilities, or features, differ by more than rounding."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=VALUE_UNITS * UNIT * float(theirs.abs().max()))


def assert_same_gradient(ours: Tensor, theirs: Tensor) -> None:
    """Fail where the gradients of a whole model, as one vector each, differ by more than rounding."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=GRADIENT_SHARE * float(theirs.abs().max()))
