"""BLEU and ROUGE_L of one answer against its ground truth, from sacrebleu and rouge-score.

Not the figures of the DriveLM challenge: those come from pycocoevalcap and are a matter of `evaluation`.
"""

from __future__ import annotations

from functools import cache

import sacrebleu
from rouge_score import rouge_scorer


def bleu(text: str, truth: str) -> float:
    """sacrebleu's sentence BLEU, 0-100: 13a tokens, exponential smoothing, effective order (short answers)."""
    return min(100.0, float(sacrebleu.sentence_bleu(text, [truth]).score))  # rounding can exceed 100 by 1e-14


def rouge_l(text: str, truth: str) -> float:
    """rouge-score's ROUGE-L F-measure, 0-100, without stemming."""
    return min(100.0, 100.0 * float(_rouge().score(truth, text)["rougeL"].fmeasure))


@cache
def _rouge() -> rouge_scorer.RougeScorer:
    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
