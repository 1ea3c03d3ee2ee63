#!/usr/bin/env bash
# Sets up ./.venv for a CPU machine: checks what the system must bring, installs the pinned packages with uv, makes
# torchvision importable and compiles DeepSpeed's shared-memory op. Run by `make setup`, `make demo` and `make test`.
# A second run finds its stamp and returns at once. PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

venv=$PWD/.venv
python=$venv/bin/python
log=$venv/setup.log
stamp=$venv/setup_stamp
made_in=$venv/made_in
started=$SECONDS

# Everything whose change asks for a new set-up; the path too, because a virtual environment cannot be moved.
fingerprint() {
    { echo "$PWD"; cat pyproject.toml constraints.txt overrides.txt setup.sh cluster/torchvision_cpu.py actors/learning/deepspeed_op.py; } | sha256sum
}

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ] && "$python" -c '' 2>/dev/null; then
    exit 0
fi

missing=0
need() {
    printf 'set-up needs %s\n' "$1" >&2
    missing=1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
        if "$candidate" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

check_machine() {
    base=$(find_python)
    if [ -z "$base" ]; then
        need "Python 3.11 or newer, and found none${PYTHON:+ at PYTHON=$PYTHON}: install it, or name one with PYTHON=/path/to/python."
    else
        "$base" -c 'import ensurepip, venv' 2>/dev/null ||
            need "Python's venv module, which $base lacks: install it (Debian and Ubuntu: apt-get install python3-venv)."
        "$base" -c 'import pathlib, sysconfig; raise SystemExit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())' ||
            need "Python's headers (Python.h), which $base lacks: install them (Debian and Ubuntu: apt-get install python3-dev)."
        "$base" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
            need "libnuma, which vLLM's CPU build loads: install it (Debian and Ubuntu: apt-get install libnuma1)."
    fi
    command -v make >/dev/null || need "make, which is not on the PATH: install it (Debian and Ubuntu: apt-get install make)."
    { command -v g++ && command -v c++; } >/dev/null ||
        need "g++ (also as c++), which is not on the PATH: install it (Debian and Ubuntu: apt-get install g++)."
    [ "$missing" = 0 ] || exit 1
}

# stage TITLE ADVICE COMMAND...: one line of progress; on failure the end of the log and what to do.
stage() {
    local title=$1 advice=$2 from=$SECONDS
    shift 2
    printf '%-44s' "  $title"
    printf '== %s\n' "$title" >>"$log"
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        printf 'failed\n'
        printf '\n' >&2
        tail -n 15 "$log" >&2
        if grep -qi 'no space left' "$log"; then advice="The disk is full: free about 5 GB, then run the command again."; fi
        printf '\nset-up stopped at "%s" (whole log: %s). %s\n' "$title" "$log" "$advice" >&2
        exit 1
    fi
    printf '%4d s\n' $((SECONDS - from))
}

make_venv() {
    "$base" -m venv "$venv"
    "$python" -m pip install --quiet --constraint constraints.txt uv
}

# uv reads no pip configuration: hand it the user's find-links and index, where pip has them.
pip_setting() {
    "$python" -m pip config get "global.$1" 2>/dev/null || "$python" -m pip config get "install.$1" 2>/dev/null || true
}

install_packages() {
    local uv="$venv/bin/uv" link links index torch_source=()
    export VIRTUAL_ENV=$venv UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
    links=${PIP_FIND_LINKS:-$(pip_setting find-links)}
    index=${PIP_INDEX_URL:-$(pip_setting index-url)}
    if [ -n "$index" ]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}; fi
    for link in $links; do torch_source+=(--find-links "$link"); done
    # Only where that offers a CPU torch for this Python; elsewhere uv knows where the CPU builds are.
    if [ -z "$links" ] || ! "$uv" pip install --dry-run --no-deps --no-index "${torch_source[@]}" "$cpu_torch"; then
        torch_source+=(--torch-backend cpu)
    fi
    "$uv" pip install --constraint constraints.txt --overrides overrides.txt "${torch_source[@]}" \
        "$cpu_torch" --editable '.[cpu,client,dev]'
    # Its schemas check cluster/launch/skypilot.yaml. What it pins beside them contradicts Ray and vLLM.
    "$uv" pip install --no-deps skypilot==0.14.1
}

# Python writes the compiled form of what it imports into .venv; without it every engine and learner starts 13 s later.
import_the_stack() {
    env -u PYTHONDONTWRITEBYTECODE timeout 300 "$python" -c '
import deepspeed, open_clip, openai, peft, pyarrow.parquet, ray.serve, rouge_score.rouge_scorer, sacrebleu, tensorboard
import transformers.models.clip.modeling_clip, transformers.models.llava.modeling_llava, vllm.v1.engine.async_llm
import vllm.entrypoints.openai.api_server, vllm.model_executor.models.llava, torch.utils.tensorboard'
}

cpu_torch="$(sed -n 's/^torch==.*/&+cpu/p' constraints.txt)"
check_machine
if [ -e "$venv" ] && [ ! -f "$made_in" ]; then
    printf 'set-up found a .venv that it did not make: move %s away, then run the command again.\n' "$venv" >&2
    exit 1
fi
origin=$(pwd; "$base" -c 'import sys; print(sys.version)')
if [ -e "$venv" ] && ! { "$python" -c 'import pip' 2>/dev/null && [ "$(cat "$made_in")" = "$origin" ]; }; then
    printf 'Making .venv anew: it is half-made, was moved, or is of another Python.\n'
    rm -rf "$venv"
fi
trap 'printf "\nset-up was interrupted; the same command goes on where it stopped.\n" >&2; exit 130' INT
printf 'Setting up %s (%s, about 4 GB; once)\n' "$venv" "$("$base" --version)"
mkdir -p "$venv"
rm -f "$stamp"
echo "$origin" >"$made_in"
: >"$log"
stage "virtual environment and uv" "Check that pip can reach your package index, then run the command again." make_venv
stage "packages" "Check the network and the disk space, then run the command again: it goes on where it stopped." install_packages
stage "torchvision" "Remove .venv and run the command again." env -u PYTHONDONTWRITEBYTECODE "$python" -m cluster.torchvision_cpu
tail -n 1 "$log" | sed 's/^/    /'
stage "DeepSpeed's shared-memory op" "Check that g++ works, then run the command again." \
    env -u PYTHONDONTWRITEBYTECODE timeout 600 "$python" -m actors.learning.deepspeed_op
stage "first imports" "Remove .venv and run the command again." import_the_stack
echo $((SECONDS - started)) >"$venv/setup_seconds"
fingerprint >"$stamp"
printf 'Set-up took %s s.\n' "$(cat "$venv/setup_seconds")"
