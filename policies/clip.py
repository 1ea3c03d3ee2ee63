"""`ClipModel`: an open_clip model that turns frames and texts into normalised embeddings.

It does not choose frames, keeps no embeddings, and does not turn a similarity into a reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
"""The names under which open_clip reads a folder."""


class ClipError(ValueError):
    """A CLIP that cannot be loaded; the message names what was asked for and what to do."""


class ClipModel:
    """A CLIP with its own preprocessing and tokenizer. Embeddings are float32 rows of length 1, on the CPU."""

    def __init__(self, model: Any, tokenizer: Any, precision: str = "fp32") -> None:
        """Wrap an open_clip model that lies on its device in its precision."""
        self.model, self._tokenizer = model.eval(), tokenizer
        self._preprocess = image_transform_v2(
            PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)), is_train=False
        )
        self._device = next(model.parameters()).device
        self._dtype = open_clip.get_input_dtype(precision)

    def pixels(self, image: Image.Image) -> Tensor:
        """An RGB image as the model takes it: float32, channels x height x width, resized and normalised."""
        return self._preprocess(image)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids, texts x context length (77 in most CLIPs), padded; what lies beyond is cut off."""
        return self._tokenizer(list(texts))

    def lengths(self, tokens_NT: Tensor) -> Tensor:
        """How many tokens of each text are no padding."""
        of_hugging_face = getattr(self._tokenizer, "tokenizer", None)
        padding = 0 if of_hugging_face is None else of_hugging_face.pad_token_id
        return (tokens_NT != padding).sum(dim=1)

    @torch.inference_mode()
    def embed_frames(self, pixels_N3HW: Tensor) -> Tensor:
        """The normalised embeddings (N x D) of preprocessed images, in one forward pass."""
        moved = pixels_N3HW.to(self._device, self._dtype)
        features: Tensor = self.model.encode_image(moved)
        return functional.normalize(features.float(), dim=-1).cpu()

    @torch.inference_mode()
    def embed_texts(self, tokens_NT: Tensor) -> Tensor:
        """The normalised embeddings (N x D) of token ids, in one forward pass."""
        return functional.normalize(encode_text(self.model, tokens_NT.to(self._device)).float(), dim=-1).cpu()


def load_clip(
    source: str | Path, pretrained: str | None = None, *, device: str = "cpu", precision: str = "fp32"
) -> ClipModel:
    """A CLIP from a folder in open_clip's layout, the hub (`hf-hub:owner/name`), or an architecture's name.

    Args:
        source: folder, hub name, or the name of an architecture, such as ViT-B-32.
        pretrained: the weights of a named architecture: a tag, such as openai, or a checkpoint file.
        device: where the model is put.
        precision: fp32, bf16 or fp16.

    Raises:
        ClipError: the source is no CLIP, or its weights are not named or not there.
    """
    name = f"local-dir:{source}" if Path(source).is_dir() else str(source)
    named = ":" not in name
    if named and pretrained is None:
        raise ClipError(
            f"CLIP {source} is no folder, so it names an architecture, which needs weights: name a tag (openai, say) "
            "or a checkpoint file as `pretrained`"
        )
    try:
        model = open_clip.create_model(
            name, pretrained if named else None, device=device, precision=precision, require_pretrained=True
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise ClipError(f"CLIP {source} (pretrained: {pretrained}) cannot be loaded: {error}") from error
    return ClipModel(model, open_clip.get_tokenizer(name), precision)


def encode_text(model: Any, tokens_NT: Tensor) -> Tensor:
    """What `model.encode_text` gives, in less time: columns behind the longest text's end are not computed.

    Under a causal mask they cannot be seen from the end of a text, where its features are taken. Most texts, and all
    prefixes of a caption, are far shorter than CLIP's 77 tokens. Models of another shape go the ordinary way.
    """
    plain = isinstance(model, open_clip.CLIP) and model.text_pool_type == "argmax" and model.attn_mask is not None
    if not plain or not isinstance(model.text_projection, nn.Parameter):
        features: Tensor = model.encode_text(tokens_NT)
        return features
    ends = tokens_NT.argmax(dim=-1)  # the end token has the highest id
    length = int(ends.max()) + 1
    dtype = model.transformer.get_cast_dtype()
    x = model.token_embedding(tokens_NT[:, :length]).to(dtype) + model.positional_embedding[:length].to(dtype)
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    at_end = x[torch.arange(len(x), device=x.device), ends]
    return model.ln_final(at_end) @ model.text_projection
