"""What the supported families call the parts of a model. Imports nothing."""

from __future__ import annotations

TOWERS = ("vision_tower", "visual", "vision_model")
PROJECTORS = ("multi_modal_projector", "connector")
"""Qwen's tower has its projector inside."""
LANGUAGE_MODELS = ("language_model", "text_model")
LANGUAGE_PROJECTIONS = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
"""The linear layers of a language model, by group."""
