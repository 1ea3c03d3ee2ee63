"""How far two float32 results may lie apart that differ only in the order of their arithmetic.

Every processor's kernels add in an order of their own, and batches that are cut differently do too. The bounds follow
from float32 and from the size of what is compared, so that they hold on every processor. The largest differences seen
under a dozen kernels (SSE to AVX-512 and AMX, one and two threads) were a third of them, or less.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNIT = torch.finfo(torch.float32).eps
VALUE_UNITS = 32
"""What a network gives is the end of a few hundred roundings one after another, half a unit each and of either sign."""
GRADIENT_SHARE = 5e-5
"""Of the whole gradient's length. What is summed nearly cancels, and from the second step on the weights differ
already (`weights_may_differ_by`). Seen on a processor with AMX: 7e-6 in the first step, 1.6e-5 in the second."""
ENTRY_SHARE = 1e-4
"""Of the largest entry, for a single one. The weight of a norm sums a term of every token and has the rounding of them
all: 1e-5 were seen in the first step, 2.1e-5 in the second, in a few dozen of 1.5 million entries."""


def assert_same_values(ours: Tensor, theirs: Tensor) -> None:
    """Fail where log-probabilities, or features, differ by more than rounding."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=VALUE_UNITS * UNIT * float(theirs.abs().max()))


def assert_same_gradient(ours: Tensor, theirs: Tensor) -> None:
    """Fail where the gradients of a whole model, as one vector each, differ by more than rounding."""
    apart = (ours.double() - theirs.double()).norm() / theirs.double().norm()
    assert float(apart) <= GRADIENT_SHARE, f"{float(apart):.2g} of the gradient's length apart"
    torch.testing.assert_close(ours, theirs, rtol=0, atol=ENTRY_SHARE * float(theirs.abs().max()))
