"""What is wrong with the driving tokens of a sample, for the model that is to learn it."""

from __future__ import annotations

import re

from data.sample import DrivingSample
from policies.heads.due import due_of
from policies.prompt import PromptEncoder
from policies.settings import PolicySettings

UNKNOWN_TOKEN = "unknown_driving_token"
NOT_DUE = "answer_not_due"
_WORD = re.compile(r"<(?:traj_x|traj_y|act)_\d+>")


class HeadFaults:
    """Looks at samples one after another; keeps nothing of them."""

    def __init__(self, source: str, settings: PolicySettings, encoder: PromptEncoder) -> None:
        """Look with the tokens of a model."""
        tokenizer = encoder.processor.tokenizer
        self._encoder, self._due = encoder, due_of(source, settings, tokenizer)
        self._known = {word for word in tokenizer.get_added_vocab() if _WORD.fullmatch(word)}

    def fault(self, sample: DrivingSample, *, answers: bool) -> tuple[str, str] | None:
        """The name that it is counted under and what a sentence says of the sample; `answers`: of its answer too."""
        texts = {"question": sample.question, **({"answer": sample.answer} if answers else {})}
        for where, text in texts.items():
            unknown = next((word for word in _WORD.findall(text) if word not in self._known), None)
            if unknown is not None:
                more = "name the file that it was made with in policy.heads"
                return UNKNOWN_TOKEN, f" has {unknown} in its {where}, a driving token that the model lacks: {more}"
        has_plan = _WORD.search(sample.answer) is not None
        if self._due is None or not answers or not (has_plan or self._due.at_once):
            return None
        if not self._due.allows(self._encoder.answer_ids(sample.answer)):
            more = "policy.heads.answer=think takes text too"
            return NOT_DUE, f" has an answer that is no whole plan of driving tokens ({sample.answer[:60]!r}): {more}"
        return None
