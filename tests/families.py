"""Tiny random checkpoints of model families that are not this project's own; each with tokenizer and processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from data.rendered.questions import driving_text
from policies.tokenizer import train_tokenizer

IDEFICS_SPECIALS = (
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
)
IDEFICS_IMAGES: dict[str, Any] = {
    "size": {"longest_edge": 64},
    "max_image_size": {"longest_edge": 64},
    "do_image_splitting": False,
}
INTERNVL_SPECIALS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
QWEN_SPECIALS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")


def tiny_qwen2_5_vl(folder: Path) -> Path:
    """A Qwen2.5-VL of a few million parameters: windowed tower, multimodal rotary positions."""
    tokenizer = qwen_tokenizer()
    config = transformers.Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 128,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
        text_config={
            **text_shape(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
        },
        **qwen_image_ids(tokenizer),
    )
    torch.manual_seed(0)
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    return save(folder, model, qwen_processor(tokenizer), tokenizer)


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer(driving_text(), 1024)
    tokenizer.add_special_tokens({"additional_special_tokens": list(QWEN_SPECIALS)})
    tokenizer.chat_template = tokenizer.chat_template.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    return tokenizer


def qwen_image_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    return {field: tokenizer.convert_tokens_to_ids(token) for field, token in names.items()}


def qwen_processor(tokenizer: PreTrainedTokenizerFast) -> transformers.Qwen2_5_VLProcessor:
    images = transformers.Qwen2VLImageProcessor(
        min_pixels=28 * 28, max_pixels=28 * 28 * 16, patch_size=14, merge_size=2, temporal_patch_size=2
    )
    videos = transformers.Qwen2VLVideoProcessor(patch_size=14, merge_size=2, temporal_patch_size=2)
    return transformers.Qwen2_5_VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=tokenizer.chat_template
    )


def tiny_qwen3_vl(folder: Path) -> Path:
    """A Qwen3-VL of a few million parameters: interleaved rotary positions, a tower that feeds two text layers."""
    tokenizer = qwen_tokenizer()
    config = transformers.Qwen3VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 128,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        text_config={
            **text_shape(tokenizer),
            "num_hidden_layers": 3,
            "head_dim": 64,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
            },
        },
        **qwen_image_ids(tokenizer),
    )
    torch.manual_seed(0)
    images = transformers.Qwen2VLImageProcessor(
        size={"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 16},
        patch_size=16,
        merge_size=2,
        temporal_patch_size=2,
    )
    processor = transformers.Qwen3VLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=transformers.Qwen3VLVideoProcessor(patch_size=16, merge_size=2, temporal_patch_size=2),
        chat_template=tokenizer.chat_template,
    )
    return save(folder, transformers.Qwen3VLForConditionalGeneration(config), processor, tokenizer)


def tiny_idefics3(folder: Path) -> Path:
    """An Idefics3 of a few hundred thousand parameters: shuffled features, plain positions."""
    tokenizer = idefics_tokenizer()
    torch.manual_seed(0)
    model = transformers.Idefics3ForConditionalGeneration(transformers.Idefics3Config(**idefics_shape(tokenizer)))
    processor = transformers.Idefics3Processor(
        image_processor=transformers.Idefics3ImageProcessor(**IDEFICS_IMAGES),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=tokenizer.chat_template,
    )
    return save(folder, model, processor, tokenizer)


def tiny_smolvlm(folder: Path) -> Path:
    """A SmolVLM of a few hundred thousand parameters: an Idefics3 with a video processor."""
    tokenizer = idefics_tokenizer()
    torch.manual_seed(0)
    model = transformers.SmolVLMForConditionalGeneration(transformers.SmolVLMConfig(**idefics_shape(tokenizer)))
    edges = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 64}}
    processor = transformers.SmolVLMProcessor(
        image_processor=transformers.SmolVLMImageProcessor(**IDEFICS_IMAGES),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=tokenizer.chat_template,
        video_processor=transformers.SmolVLMVideoProcessor(**edges),
    )
    return save(folder, model, processor, tokenizer)


def tiny_internvl(folder: Path) -> Path:
    """An InternVL of a few hundred thousand parameters, in Hugging Face's own layout."""
    plain = train_tokenizer(driving_text(), 1024)
    plain.add_special_tokens({"additional_special_tokens": list(INTERNVL_SPECIALS.values())})
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer,
        model_max_length=4096,
        padding_side="left",
        bos_token=plain.bos_token,
        unk_token=plain.unk_token,
        eos_token=plain.eos_token,
        pad_token=plain.pad_token,
        extra_special_tokens=INTERNVL_SPECIALS,
    )
    tokenizer.chat_template = plain.chat_template.replace("<image>", "<IMG_CONTEXT>")
    config = transformers.InternVLConfig(
        vision_config=transformers.InternVLVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=[56, 56],
            patch_size=[14, 14],
        ),
        text_config=transformers.Qwen2Config(**text_shape(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    torch.manual_seed(0)
    square = {"height": 56, "width": 56}
    processor = transformers.InternVLProcessor(
        image_processor=transformers.GotOcr2ImageProcessor(
            size=square, crop_to_patches=False, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        video_processor=transformers.InternVLVideoProcessor(size=square),
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )
    return save(folder, transformers.InternVLForConditionalGeneration(config), processor, tokenizer)


def tiny_mllama(folder: Path) -> Path:
    """A Llama-3.2-Vision of a few hundred thousand parameters: its text looks at images by cross-attention."""
    tokenizer = train_tokenizer(driving_text(), 1024)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|python_tag|>"]})
    vocabulary = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|python_tag|>", "<|image|>"]})  # beyond the logits
    tokenizer.chat_template = tokenizer.chat_template.replace("<image>", "<|image|>")
    ratios = [[1, 1], [1, 2], [2, 1]]
    config = transformers.MllamaConfig(
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "vision_output_dim": 128,
            "image_size": 56,
            "patch_size": 14,
            "max_num_tiles": 2,
            "intermediate_layers_indices": [0],
            "supported_aspect_ratios": ratios,
        },
        text_config={
            **text_shape(tokenizer),
            "vocab_size": vocabulary,
            "num_hidden_layers": 3,
            "cross_attention_layers": [1],
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    torch.manual_seed(0)
    processor = transformers.MllamaProcessor(
        image_processor=transformers.MllamaImageProcessor(size={"height": 56, "width": 56}, max_image_tiles=2),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )
    model = transformers.MllamaForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_gate"):  # closed in a fresh model: it would not look at its images
                parameter.fill_(1.0)
    return save(folder, model, processor, tokenizer)


def idefics_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer(driving_text(), 1024)
    tokenizer.add_special_tokens({"additional_special_tokens": list(IDEFICS_SPECIALS)})
    return tokenizer


def idefics_shape(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vision_config": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
        },
        "text_config": transformers.LlamaConfig(**text_shape(tokenizer)),
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "pad_token_id": tokenizer.pad_token_id,
        "scale_factor": 2,
    }


def text_shape(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """A text model of two layers, its heads of the size that vLLM takes."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def save(
    folder: Path,
    model: transformers.PreTrainedModel,
    processor: transformers.ProcessorMixin,
    tokenizer: PreTrainedTokenizerFast,
) -> Path:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:  # larger than the default, so that the logits are not flat
                parameter.normal_(0, 0.06)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
