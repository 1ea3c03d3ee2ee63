"""The ids of a model's driving tokens."""

from __future__ import annotations

from typing import Any

from policies.errors import PolicyError
from policies.heads.files import Heads


def token_ids(tokenizer: Any, heads: Heads) -> dict[str, int]:
    """The id of each driving token.

    Raises:
        PolicyError: the tokenizer does not have one.
    """
    vocabulary = tokenizer.get_vocab()
    if absent := [word for word in heads.words if word not in vocabulary]:
        raise PolicyError(f"the tokenizer has no {absent[0]}: set policy.heads as in the run that this model came from")
    return {word: vocabulary[word] for word in heads.words}
