"""The tiny CLIP: a small open_clip model taught on rendered scenes and their captions, so that R1 means something.

A minute or two on two CPU cores, no download. It learns exactly what R1 asks of it: the mean of a scene's normalised
frame embeddings, not normalised again, against the normalised embedding of a caption.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from data.rendered.captions import caption_of, caption_sentences
from data.rendered.drawing import render_scene
from data.rendered.scene import Scene, build_scene
from policies.clip import CONFIG_FILE, WEIGHTS_FILE, ClipModel, encode_text, load_clip
from policies.settings import TINY

TINY_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 96,
        "init_logit_scale": math.log(60.0),
        "vision_cfg": {
            "image_size": 48,
            "patch_size": 16,
            "width": 96,
            "layers": 2,
            "head_width": 32,
            "pool_type": "avg",
        },
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    },
    # The whole frame, not its middle square: objects stand at the sides too.
    "preprocess_cfg": {"resize_mode": "squash", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}
TOKEN_STD, POSITION_STD = 0.5, 0.3
RECIPE = {"scenes": 1000, "steps": 400, "batch": 32, "lr": 1e-3, "warmup": 0.1, "part_share": 0.3, "format": 1}
"""How it is taught. `warmup` is a share of the steps. `part_share` of the captions keep only some of their sentences,
for answers are shorter than captions. `format` is raised whenever scenes, captions or this module change, so that no
older model is taken for it."""
TRAINING_SCENES, HELD_OUT_SCENES = 7_000_000, 8_000_000
"""Seeds of the scenes it is taught on and tested on; a run's own scenes have the seed of its recipe."""
MAX_LOGIT_SCALE = 100.0


@dataclass(frozen=True, slots=True)
class CaptionRecall:
    """Shares of scenes found among all by their caption, and of captions found among all by their scene."""

    scenes: int
    caption_of_scene: float
    """For this share the caption most like the scene's frames is its own: recall@1 of caption retrieval."""
    scene_of_caption: float

    @property
    def chance(self) -> float:
        """The recall of guessing."""
        return 1.0 / self.scenes


def clip_source(model: str, cache: Path) -> str:
    """What `load_clip` takes for `reward.clip.model`. `tiny` is taught under `cache`, once."""
    if model != TINY:
        path = Path(model).expanduser()
        return str(path.resolve()) if path.is_dir() else model
    folder = cache.resolve() / f"tiny-clip-{RECIPE['format']}"
    if not (folder / WEIGHTS_FILE).is_file():
        train_tiny_clip(folder)
    return str(folder)


def train_tiny_clip(folder: Path, seed: int = 0, scenes: int | None = None, steps: int | None = None) -> Path:
    """Teach a tiny CLIP and write it into `folder`, complete or not at all; returns the folder.

    Deterministic in (seed, scenes, steps) on one machine. Uses torch's threads as they are set.
    """
    taught_on = [build_scene(index, TRAINING_SCENES + seed) for index in range(scenes or int(RECIPE["scenes"]))]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_clip(TINY_CONFIG)
        _initialise(model)
        clip = ClipModel(model, open_clip.get_tokenizer("ViT-B-32"))
        _teach(clip, taught_on, steps or int(RECIPE["steps"]), seed)
    beside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    save_clip(beside, model, TINY_CONFIG)
    beside.rename(folder)
    return folder


def build_clip(config: dict[str, Any]) -> Any:
    """A CLIP of random weights from what open_clip's `open_clip_config.json` holds (`model_cfg`, `preprocess_cfg`)."""
    model = open_clip.CLIP(**config["model_cfg"])
    preprocess = asdict(PreprocessCfg(size=model.visual.image_size)) | config["preprocess_cfg"]
    open_clip.set_model_preprocess_cfg(model, preprocess)
    return model


def save_clip(folder: Path, model: nn.Module, config: dict[str, Any]) -> None:
    """Write a CLIP in open_clip's layout: weights in safetensors, and the config that built it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1))


def caption_recall(clip: ClipModel, scenes: Sequence[Scene]) -> CaptionRecall:
    """How often a scene and its caption find each other among all of `scenes`, drawn anew."""
    pixels = pixels_of(clip, scenes)
    frames = torch.stack([clip.embed_frames(views) for views in pixels])
    texts = clip.embed_texts(clip.tokens([caption_of(scene, seed=1) for scene in scenes]))
    similarity = frames.mean(dim=1) @ texts.T
    own = torch.arange(len(scenes))
    return CaptionRecall(
        len(scenes),
        float((similarity.argmax(dim=1) == own).float().mean()),
        float((similarity.argmax(dim=0) == own).float().mean()),
    )


def held_out_recall(source: str, scenes: int = 200) -> CaptionRecall:
    """The recall of the CLIP in `source` on that many scenes which no tiny CLIP is taught on."""
    return caption_recall(load_clip(source), [build_scene(index, HELD_OUT_SCENES) for index in range(scenes)])


def pixels_of(clip: ClipModel, scenes: Sequence[Scene]) -> Tensor:
    """The views of scenes as the model takes them: scenes x cameras x 3 x height x width."""
    return torch.stack([torch.stack([clip.pixels(view) for view in render_scene(scene).values()]) for scene in scenes])


@torch.no_grad()
def _initialise(model: Any) -> None:
    """Matrices by fan-in, tokens and places loud, so that captions, and frames, differ from the first step.

    With open_clip's own start all frames of a scene soon have one embedding, that of the sky which they share, and
    then nothing tells the model of anything else.
    """
    model.token_embedding.weight.normal_(0.0, TOKEN_STD)
    model.visual.positional_embedding.normal_(0.0, POSITION_STD)
    model.visual.conv1.weight.normal_(0.0, model.visual.conv1.weight[0].numel() ** -0.5)
    for tower in (model.visual.transformer, model.transformer):
        outward = (2 * len(tower.resblocks)) ** -0.5
        for block in tower.resblocks:
            for matrix, gain in (
                (block.attn.in_proj_weight, 1.0),
                (block.attn.out_proj.weight, outward),
                (block.mlp.c_fc.weight, 1.0),
                (block.mlp.c_proj.weight, outward),
            ):
                matrix.normal_(0.0, gain * matrix.shape[1] ** -0.5)


def _teach(clip: ClipModel, scenes: Sequence[Scene], steps: int, seed: int) -> None:
    """The symmetric contrastive loss: of a batch, every scene has to find its caption, and every caption its scene."""
    pixels, model, rng = pixels_of(clip, scenes), clip.model.train(), random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RECIPE["lr"], betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_then_cosine(step, steps))
    for step in range(steps):
        chosen = rng.sample(range(len(scenes)), min(int(RECIPE["batch"]), len(scenes)))
        tokens = clip.tokens([_lesson(scenes[index], step, rng) for index in chosen])
        scale = model.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
        logits = scale * _mean_of_frames(model, pixels[chosen]) @ functional.normalize(encode_text(model, tokens)).T
        own = torch.arange(len(chosen))
        loss = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def _mean_of_frames(model: Any, pixels_BM3HW: Tensor) -> Tensor:
    frames = functional.normalize(model.encode_image(pixels_BM3HW.flatten(0, 1)), dim=-1)
    return frames.unflatten(0, pixels_BM3HW.shape[:2]).mean(dim=1)


def _lesson(scene: Scene, step: int, rng: random.Random) -> str:
    sentences = caption_sentences(scene, seed=2 + step)  # wording 1 is kept for the test
    if rng.random() >= RECIPE["part_share"]:
        return " ".join(sentences)
    kept = sorted(rng.sample(range(len(sentences)), rng.randint(1, len(sentences))))
    return " ".join(sentences[index] for index in kept)


def _warm_then_cosine(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / (RECIPE["warmup"] * steps))
    return warm * 0.5 * (1.0 + math.cos(math.pi * step / steps))
