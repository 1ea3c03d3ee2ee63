"""What vouches for a tensor's bytes on its way: a sum weighted by position, formed where the tensor lies.

It costs one pass over the bytes, on the GPU that holds them as on a CPU, and needs nothing but integer sums, so that it
is the same everywhere. A bucket's is derived from its tensors', so that no byte is read twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a recipe is checked without torch
    from torch import Tensor

WORD = 8
"""Bytes that are summed as one integer."""
ROW = 32
"""Words whose sum is weighted as one: 256 bytes. Row `r` counts `1 + 2 * r` times: an odd number, so that no
change of one word is lost when integers wrap."""
ODD = 0x9E3779B97F4A7C15
MODULUS = 1 << 64


def checksum(tensor: Tensor) -> int:
    """Of a tensor's bytes, in the order of its elements; a change of any one word shows, and rows changing places."""
    import torch

    flat = tensor.detach().contiguous().flatten().view(torch.uint8)
    size = flat.numel()
    if size % (WORD * ROW) or flat.data_ptr() % WORD:  # a copy begins where words may begin
        padded = torch.zeros(-(-size // (WORD * ROW)) * WORD * ROW, dtype=torch.uint8, device=flat.device)
        padded[:size] = flat
        flat = padded
    sums_R = flat.view(torch.int64).view(-1, ROW).sum(1)
    weights_R = 1 + 2 * torch.arange(len(sums_R), device=flat.device)
    return (int((sums_R * weights_R).sum()) + size * ODD) % MODULUS


def derived(checksums: Iterable[int]) -> int:
    """The checksum of tensors that travel together, from their own, in their order."""
    found = 0
    for one in checksums:
        found = (found * ODD + one + 1) % MODULUS
    return found
