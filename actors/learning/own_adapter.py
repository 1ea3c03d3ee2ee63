"""The learner's own adapter in PEFT's layout, beside the merged policy: small to keep and to pass on.

All ranks gather, rank 0 writes; other adapters that a learner holds (`adapters.py`) are not its own.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from actors.learning.learner import OWN
from actors.sync.source import whole
from policies.heads.rows import ROWS, grown
from policies.lora import adapter_name
from policies.model import Policy

WEIGHTS_FILE = "adapter_model.safetensors"
ROWS_FILE = "driving_token_rows.safetensors"
"""The learnt rows of driving tokens, which PEFT's own files have no place for."""


def write_adapter(policy: Policy, folder: Path, *, writes: bool) -> None:
    """Write `adapter_config.json` and the weights into a folder; `writes` on rank 0 alone."""
    tensors, rows = dict[str, Tensor](), dict[str, Tensor]()
    learnt = {f"{name}.{ROWS}" for name in grown(policy.model)}
    for name, parameter in policy.model.named_parameters():
        if name not in learnt and (".lora_" not in name or f".{OWN}." not in name):
            continue
        with whole([parameter]):
            if writes:
                kept = rows if name in learnt else tensors
                kept[adapter_name(name)] = parameter.detach().cpu().clone().contiguous()
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        model: Any = policy.model
        config = copy.deepcopy(model.peft_config[OWN])  # the policy's own goes on learning
        config.inference_mode = True
        config.save_pretrained(str(folder))
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        if rows:
            save_file(rows, folder / ROWS_FILE, metadata={"format": "pt"})
