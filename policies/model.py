"""The learner's model: a Hugging Face image-text-to-text model that returns log-probabilities (and values) of given
tokens."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from policies.attention import Kernel, shared_mask, take_kernel
from policies.batch import Batch, counted_positions
from policies.cross_attention import cross_attention_mask
from policies.errors import PolicyError
from policies.folder import check_folder
from policies.four_bit import keep_format, quantization
from policies.heads.due import Due, due_of
from policies.heads.files import heads_in
from policies.heads.rows import learn_rows, release_rows, without_rows
from policies.heads.words import token_ids
from policies.lora import add_adapters
from policies.patches import set_patches
from policies.processor_fields import check_image_tokens, fill_from_config, may_lack_fields
from policies.prompt import PromptEncoder
from policies.settings import PolicySettings
from policies.value_head import ValueHead
from policies.views import BLANK
from policies.vision import freeze_vision, with_features
from policies.vocabulary import Masked, project_in_chunks

ROTARY_GRID_MODELS = frozenset({"qwen2_5_vl", "qwen3_vl"})
"""Model types that number image tokens by time, row and column (multimodal rotary positions)."""
SHARED_PREFIX_MODELS = ROTARY_GRID_MODELS | {"llava", "idefics3", "smolvlm", "internvl"}
"""Model types whose text attends by a mask and position ids, so that several responses can share a prompt in a row."""

PLACEHOLDER_FIELDS = (
    "image_token_id",
    "image_token_index",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
)
"""Config fields that name ids standing for image features; a policy must never sample them."""


BRINGS_CODE = "trust_remote_code"
"""What transformers asks for where a checkpoint is only read by Python files of its own."""


class Policy(nn.Module):
    """A vision-language model under training.

    `forward` gives the log-probabilities of the distribution that was sampled from: forbidden ids removed, logits
    divided by the sampling temperature. Only the positions that predict a response token reach the vocabulary
    projection.
    """

    def __init__(
        self,
        model: Any,
        forbidden_ids: tuple[int, ...],
        temperature: float,
        *,
        critic: bool = False,
        kernel: Kernel = "sdpa",
        due: Due | None = None,
    ) -> None:
        """Wrap `model`, whose body is `model.model` and whose vocabulary projection is `model.lm_head`.

        With `critic`, a value head reads the same hidden states. `kernel` computes attention over shared prompts.
        `due` says which driving tokens could be sampled at each position.
        """
        super().__init__()
        self.model, self.kernel = model, kernel
        project_in_chunks(self.body)
        width, dtype = self.body.config.get_text_config().hidden_size, self.body.lm_head.weight.dtype
        self.value_head = ValueHead(width, dtype) if critic else None
        self.forbidden_ids = list(forbidden_ids)
        self.temperature = temperature
        self._due, self._barred_K_V = due, due.mask(self.body.lm_head.out_features) if due else None

    @property
    def body(self) -> Any:
        """The model below any adapters."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def model_type(self) -> str:
        """The Hugging Face model type, such as `llava`."""
        return self.body.config.model_type

    @property
    def shares_prefix(self) -> bool:
        """Whether a group can be packed as one row."""
        return self.model_type in SHARED_PREFIX_MODELS

    def prompt_positions(self, prompt_ids: tuple[int, ...], images: dict[str, Tensor]) -> Tensor:
        """The position ids of a prompt's tokens, (axes, length); see `pack`."""
        if self.model_type not in ROTARY_GRID_MODELS or "image_grid_thw" not in images:
            return counted_positions(prompt_ids, images)
        ids_1_L = torch.tensor([prompt_ids])
        positions_3_1_L, _ = self.body.model.get_rope_index(
            ids_1_L, mm_token_type_ids=self._image_tokens(ids_1_L), image_grid_thw=images["image_grid_thw"]
        )
        return positions_3_1_L[:, 0]

    def forward(self, batch: Batch, temperature: float | None = None) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities and values of the batch's response tokens, (R, T) in float32; 0 outside the mask.

        A value is that of the state before the token, and None without a critic.
        """
        hidden_B_L_D = self.body.model(**self._model_inputs(batch), use_cache=False).last_hidden_state
        # The real tokens alone: a vocabulary is wide, and padding up to the longest response would fill it in vain.
        hidden_N_D = hidden_B_L_D.flatten(0, 1)[batch.source_R_T.flatten()[batch.real_N]]
        token_ids_N = batch.token_ids_R_T.flatten()[batch.real_N]
        temperature = self.temperature if temperature is None else temperature
        logprobs_N = self.body.lm_head(
            hidden_N_D, token_ids_N, temperature, self.forbidden_ids, due=self._masked(batch)
        )
        values_R_T = None if self.value_head is None else _placed(self.value_head(hidden_N_D), batch)
        return _placed(logprobs_N, batch), values_R_T

    def _masked(self, batch: Batch) -> Masked | None:
        """What was due at each of the real tokens."""
        if self._due is None or self._barred_K_V is None:
            return None
        ids_R_T = batch.token_ids_R_T
        states_R_T = torch.tensor([self._due.states(row) for row in ids_R_T.tolist()], device=ids_R_T.device)
        self._barred_K_V = self._barred_K_V.to(ids_R_T.device)
        return Masked(states_R_T.flatten()[batch.real_N], self._barred_K_V)

    def _model_inputs(self, batch: Batch) -> dict[str, Any]:
        dtype = self.body.lm_head.weight.dtype
        inputs: dict[str, Any] = {n: t.to(dtype) if t.is_floating_point() else t for n, t in batch.model_inputs.items()}
        inputs = with_features(self.model_type, inputs)
        if batch.shared is not None:
            ids_B_L = inputs["input_ids"]
            inputs["attention_mask"] = shared_mask(batch.shared, ids_B_L.shape[1], self.kernel, ids_B_L.device)
        if self.model_type in ROTARY_GRID_MODELS:  # whose positions, where none are given, derive from the token types
            inputs["mm_token_type_ids"] = self._image_tokens(inputs["input_ids"])
        if "aspect_ratio_mask" in inputs:
            image_token, tiles = self.body.config.image_token_index, inputs["aspect_ratio_mask"]
            inputs["cross_attention_mask"] = cross_attention_mask(
                inputs["input_ids"], inputs["attention_mask"], image_token, tiles
            )
        return inputs

    def _image_tokens(self, ids_B_L: Tensor) -> Tensor:
        return (ids_B_L == self.body.config.image_token_id).int()


def _placed(values_N: Tensor, batch: Batch) -> Tensor:
    """Values of the real tokens in their places of (R, T), 0 elsewhere."""
    return torch.zeros_like(batch.mask_R_T).flatten().scatter(0, batch.real_N, values_N).view_as(batch.mask_R_T)


class ReferencePolicy:
    """The policy that the KL term holds on to: the trained one with its adapters off, or a frozen copy."""

    def __init__(self, policy: Policy) -> None:
        """Use `policy` itself when it carries adapters; otherwise it must be a copy that nothing trains."""
        self._policy = policy.requires_grad_(False).eval() if not has_adapters(policy) else policy

    @property
    def copied(self) -> list[Tensor]:
        """Weights that it has apart from the trained policy's; those that ZeRO-3 shards are not among them."""
        if has_adapters(self._policy):
            return []
        return [weight for weight in self._policy.parameters() if not hasattr(weight, "ds_tensor")]

    @torch.no_grad()
    def logprobs(self, batch: Batch) -> Tensor:
        """Log-probabilities (R, T) of the batch's response tokens under the reference."""
        adapted = has_adapters(self._policy)
        with self._policy.model.disable_adapter() if adapted else nullcontext(), without_rows(self._policy):
            logprobs_R_T, _ = self._policy(batch)
        return logprobs_R_T


def has_adapters(policy: Policy) -> bool:
    """Whether only adapters on top of the model are trained."""
    return hasattr(policy.model, "disable_adapter")


def load_policy(folder: Path | str, settings: PolicySettings, temperature: float, *, critic: bool = False) -> Policy:
    """Load a checkpoint as a trainable policy (adapters added, vision frozen, as the settings say).

    With `critic`, it gets a fresh value head.

    Raises:
        PolicyError: the folder or hub name holds no image-text-to-text model, or not all of its weights.
    """
    try:
        model, loaded = AutoModelForImageTextToText.from_pretrained(
            folder,
            revision=settings.revision,
            dtype=getattr(torch, settings.dtype),
            attn_implementation="sdpa",
            trust_remote_code=False,
            use_safetensors=True,
            quantization_config=quantization(settings),
            ignore_mismatched_sizes=True,  # reported below, like what is missing, instead of a traceback
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise PolicyError(f"policy.model={folder}: no image-text-to-text model could be loaded ({error})") from error
    if absent := sorted({*loaded["missing_keys"], *(name for name, *_ in loaded["mismatched_keys"])}):
        named = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise PolicyError(  # transformers would draw these at random, and training would go on from noise
            f"policy.model={folder}: {len(absent)} of the weights that its config.json describes are missing or of "
            f"another shape ({named}): put the config.json there that belongs to these weights, or the missing files"
        )
    keep_format(model)
    model.config.use_cache = False
    forbidden = placeholder_ids(model.config)
    if settings.freeze_vision:
        freeze_vision(model, projector=settings.freeze_projector)
    kernel = take_kernel(model, settings, shares_prefix=model.config.model_type in SHARED_PREFIX_MODELS)
    due = None
    if settings.heads is not None:
        tokenizer = load_processor(folder, settings).tokenizer
        due = due_of(folder, settings, tokenizer)
        if settings.lora is not None:
            learn_rows(model, list(token_ids(tokenizer, heads_in(Path(folder))).values()))
    if settings.lora is not None:
        model = add_adapters(model, settings.lora)
        release_rows(model)
    return Policy(model, forbidden, temperature, critic=critic, kernel=kernel, due=due)


def load_processor(folder: Path | str, settings: PolicySettings) -> Any:
    """Load the processor (tokenizer, image processor, chat template) of a checkpoint, its patches as the settings say.

    Raises:
        PolicyError: it is missing, has no chat template, or cannot cut images into patches as it is asked to.
    """
    try:
        processor = AutoProcessor.from_pretrained(folder, revision=settings.revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"policy.model={folder} has no processor: put preprocessor_config.json, processor_config.json and the "
            f"tokenizer files of the original model beside its weights ({error})"
        ) from error
    if not hasattr(processor, "image_processor"):
        raise PolicyError(f"policy.model={folder} has a tokenizer but no image processor (preprocessor_config.json)")
    if not getattr(processor, "chat_template", None):
        raise PolicyError(f"policy.model={folder} has no chat template (chat_template.jinja)")
    set_patches(processor, settings.image_patches)
    if may_lack_fields(processor):
        config = AutoConfig.from_pretrained(folder, revision=settings.revision, trust_remote_code=False)
        fill_from_config(processor, config)
    return processor


def check_checkpoint(folder: str, settings: PolicySettings) -> None:
    """Check that a checkpoint has a config of an image-text-to-text model, a processor and whole files of weights.

    One image goes through the processor. The weights themselves are not read, and those of a hub name not looked for.

    Raises:
        PolicyError: says what is missing.
    """
    check_folder(folder)
    try:
        config = AutoConfig.from_pretrained(folder, revision=settings.revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        if BRINGS_CODE in str(error):
            raise PolicyError(
                f"policy.model={folder} brings code of its own, which is never run here: choose a model whose "
                "architecture transformers has itself"
            ) from None
        raise PolicyError(
            f"policy.model={folder} is neither a checkpoint folder nor a known hub name ({error})"
        ) from error
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise PolicyError(f"policy.model={folder} is a {config.model_type} model, which takes no images")
    encoder = PromptEncoder(load_processor(folder, settings), settings)
    try:
        prompt_ids, tensors = encoder.blank_prompt(), encoder.image_tensors((BLANK,))
    except (TypeError, ValueError, ArithmeticError, AttributeError, KeyError, IndexError) as error:
        raise PolicyError(
            f"policy.model={folder}: its processor takes no image ({error!r}): put preprocessor_config.json and "
            "processor_config.json of the original model beside its weights"
        ) from error
    check_image_tokens(folder, config, prompt_ids, tensors.get("pixel_values"))


def forbidden_ids(folder: Path | str, settings: PolicySettings) -> tuple[int, ...]:
    """The ids an engine must never sample, read from the checkpoint's config."""
    return placeholder_ids(AutoConfig.from_pretrained(folder, revision=settings.revision, trust_remote_code=False))


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end a response: the tokenizer's end of a turn, and those of the model's generation_config.json."""
    configured = model.generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    return frozenset(id_ for id_ in (tokenizer.eos_token_id, *several) if id_ is not None)


def image_token_ids(folder: Path | str, settings: PolicySettings) -> frozenset[int]:
    """The ids that stand for images in a checkpoint's prompts."""
    config = AutoConfig.from_pretrained(folder, revision=settings.revision, trust_remote_code=False)
    found = (getattr(config, field, None) for field in ("image_token_id", "image_token_index"))
    return frozenset(id_ for id_ in found if id_ is not None)


def placeholder_ids(config: Any) -> tuple[int, ...]:
    """Ids that stand for image or video features in a prompt and could be sampled (Llama-3.2-Vision's cannot)."""
    found = {getattr(config, field, None) for field in PLACEHOLDER_FIELDS}
    vocabulary = range(config.get_text_config().vocab_size)
    return tuple(sorted(token for token in found if isinstance(token, int) and token in vocabulary))
