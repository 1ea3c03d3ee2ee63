"""Does RL make action tokens drive better than their own SFT? One seed of `recipes/tiny_vla_rl.yaml`, measured.

    python -m benchmarks.vla [--seed 0] [part.key=value ...]
    python -m benchmarks.vla --pool runs/vla-0 runs/vla-1 runs/vla-2

As `benchmarks.closed_loop`, whose policy answers in words: the tokens' policy copies the expert until its held-out loss
stops falling, then drives itself, and a control goes on copying for the same time. `gain_over_before` of the pooled
seeds is what RL adds to its own SFT, with its paired interval.
"""

from __future__ import annotations

from benchmarks.closed_loop import main

if __name__ == "__main__":
    main("tiny_vla_rl", "vla", __doc__)
