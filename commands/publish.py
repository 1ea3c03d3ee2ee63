"""What becomes of a trained policy: its adapter alone, an adapter merged into a base, a folder pushed to the hub.

    python -m commands.publish adapter runs/mine OUT           # the LoRA adapter of a run, in PEFT's layout
    python -m commands.publish merge BASE ADAPTER OUT          # base and adapter as one checkpoint
    python -m commands.publish push runs/mine OWNER/NAME       # the policy with its model card; --dry-run sends nothing

Pushing wants a token (`hf auth login`, or HF_TOKEN); with HF_HUB_OFFLINE=1 it only says what would be sent.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
from pathlib import Path

from commands.script import command
from evaluation.run_record import ADAPTER_FOLDER, POLICY_FOLDER
from policies.errors import PolicyError

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def main(arguments: list[str]) -> int:
    """Do what is asked; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m commands.publish", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    adapter = commands.add_parser("adapter", help="take the adapter of a run")
    adapter.add_argument("run", type=Path, help="the run's folder")
    adapter.add_argument("out", type=Path, help="folder to write; must not exist")
    adapter.add_argument("--base", help="the base model's name, for those who load it (default: the run's)")
    merging = commands.add_parser("merge", help="merge an adapter into its base")
    merging.add_argument("base", help="checkpoint folder, or name on the hub")
    merging.add_argument("adapter", type=Path, help="folder with adapter_config.json")
    merging.add_argument("out", type=Path, help="folder to write; must not exist")
    pushing = commands.add_parser("push", help="push a policy to the hub")
    pushing.add_argument("folder", type=Path, help="a run's folder, or a checkpoint's")
    pushing.add_argument("repository", help="OWNER/NAME")
    pushing.add_argument("--private", action="store_true", help="make the repository private where it is new")
    pushing.add_argument("--dry-run", action="store_true", help="say what would be sent; send nothing")
    options = parser.parse_args(arguments)
    if options.command == "adapter":
        return take_adapter(options.run, options.out, options.base)
    if options.command == "merge":
        return merge(options.base, options.adapter, options.out)
    return push(options.folder, options.repository, private=options.private, dry=options.dry_run)


def take_adapter(run: Path, out: Path, base: str | None) -> int:
    """Copy a run's adapter, and say in it which base it belongs to; the exit code.

    Raises:
        PolicyError: the run has none, or `out` exists.
    """
    held = run / POLICY_FOLDER / ADAPTER_FOLDER
    if not (held / "adapter_config.json").is_file():
        raise PolicyError(
            f"{run} holds no adapter: a run with policy.lora leaves one in {POLICY_FOLDER}/{ADAPTER_FOLDER}"
        )
    _new(out)
    shutil.copytree(held, out)
    if base is not None:
        path = out / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}, indent=2))
    print(f"{out}: load it with peft.PeftModel.from_pretrained(base, {str(out)!r}), or vLLM's --lora-modules")
    return 0


def merge(base: str, adapter: Path, out: Path) -> int:
    """Write base and adapter as one checkpoint; the exit code.

    Raises:
        PolicyError: one of them cannot be loaded, or `out` exists.
    """
    if not (adapter / "adapter_config.json").is_file():
        raise PolicyError(f"{adapter} holds no adapter_config.json: name the folder of an adapter")
    _new(out)
    from peft import PeftModel  # torch and transformers take seconds
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from policies.checkpoint import save_checkpoint

    try:
        model = AutoModelForImageTextToText.from_pretrained(base, dtype="auto")
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        processor = AutoProcessor.from_pretrained(base)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise PolicyError(f"{adapter} cannot be merged into {base}: {' '.join(str(error).split())[:300]}") from None
    tensors = {name: parameter.detach().cpu() for name, parameter in merged.named_parameters()}
    save_checkpoint(out, merged, processor, tensors)
    print(f"{out}: {sum(tensor.numel() for tensor in tensors.values()):,} weights")
    return 0


def push(folder: Path, repository: str, *, private: bool, dry: bool) -> int:
    """Send a checkpoint folder to the hub, or say what would be sent; the exit code.

    Raises:
        PolicyError: there is no checkpoint, no name, no token, or the hub refuses.
    """
    policy = folder / POLICY_FOLDER if (folder / POLICY_FOLDER / "config.json").is_file() else folder
    if not any((policy / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise PolicyError(f"{folder} is neither the folder of a finished run nor a checkpoint")
    if not REPOSITORY.fullmatch(repository):
        raise PolicyError(f"{repository} must be OWNER/NAME, as the hub names repositories")
    files = sorted(file for file in policy.rglob("*") if file.is_file())
    for file in files:
        print(f"{file.stat().st_size / 2**20:>10,.1f} MiB  {file.relative_to(policy)}")
    if not (policy / "README.md").is_file():
        print("there is no README.md: the hub will show no model card")
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    if dry or offline:
        print(f"nothing was sent to {repository} ({'HF_HUB_OFFLINE is set' if offline else '--dry-run'})")
        return 0
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        raise PolicyError(
            f"nothing was sent to {repository}: no token; hf auth login stores one, or export HF_TOKEN=..."
        )
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        sent = api.upload_folder(repo_id=repository, folder_path=policy)
    except (HfHubHTTPError, OSError) as error:
        said = " ".join(str(error).split())[:300]
        raise PolicyError(f"{repository} was not pushed, the same command tries again: {said}") from None
    print(sent)
    return 0


def _new(out: Path) -> None:
    if out.exists():
        raise PolicyError(f"{out} exists already: name another folder")


if __name__ == "__main__":
    command(main)
