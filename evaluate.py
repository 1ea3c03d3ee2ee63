"""Measure a model on a published benchmark, a predictions file by its answers, or a policy on its recipe's own
held-out scenes. Prints a table and, last, one JSON object.

python evaluate.py drivebench --model runs/tiny --answers drivebench-test.json --image-root nuscenes   a model
python evaluate.py drivelm --predictions output.json --answers test_eval.json                          from files
python evaluate.py compare runs/first runs/second                                                      two runs
python evaluate.py runs/tiny                                        the policy a run left, on its held-out scenes
python evaluate.py recipes/tiny.yaml policy.model=runs/warm/policy  any checkpoint, on a recipe's data
"""

from __future__ import annotations

import sys

from commands.evaluate import run
from extension import at_home

if __name__ == "__main__":
    sys.exit(run([at_home(one) for one in sys.argv[1:]]))
