"""The critic: a value head on the body it shares with the policy (BDD-OIA 2.2.2: V_w(s_t) = MLP_w(h(s_t)))."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ValueHead(nn.Module):
    """Two layers from a hidden state to one number, the reward still to be expected from there on, in units of 0-1.

    Its last layer starts at zero, so that a fresh critic expects nothing and distorts nothing.
    """

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        """Make a head for hidden states of `width` numbers."""
        super().__init__()
        self.hidden = nn.Linear(width, width, dtype=dtype)
        self.out = nn.Linear(width, 1, dtype=dtype)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden_R_T_D: Tensor) -> Tensor:
        """Values (R, T) in float32 of the states that predict each token."""
        return self.out(torch.tanh(self.hidden(hidden_R_T_D))).float().squeeze(-1)
