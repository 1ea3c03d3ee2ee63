"""Log-probabilities in chunks: the values and gradients of the whole projection, without its memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from policies.vocabulary import VocabularyProjection, chunk_rows, project_in_chunks

WIDTH = 24


def made(positions: int, vocabulary: int, dtype: torch.dtype = torch.float32, *, bias: bool = False) -> Any:
    torch.manual_seed(positions * vocabulary)
    head = nn.Linear(WIDTH, vocabulary, bias=bias, dtype=dtype)
    hidden_N_D = torch.randn(positions, WIDTH, dtype=dtype, requires_grad=True)
    return head, hidden_N_D, torch.randint(0, vocabulary, (positions,)), torch.randn(positions)


def in_chunks(head: nn.Linear) -> VocabularyProjection:
    model = nn.Module()
    model.lm_head = head
    project_in_chunks(model)
    assert isinstance(model.lm_head, VocabularyProjection)
    return model.lm_head


def whole(head: nn.Linear, hidden_N_D: Tensor, ids_N: Tensor, temperature: float, forbidden: list[int]) -> Tensor:
    logits_N_V = nn.functional.linear(hidden_N_D, head.weight, head.bias).float()
    logits_N_V = logits_N_V.index_fill(1, torch.tensor(forbidden, dtype=torch.long), -torch.inf) / temperature
    return logits_N_V.gather(1, ids_N[:, None])[:, 0] - logits_N_V.logsumexp(1)


def gradients(logprobs_N: Tensor, weights_N: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((logprobs_N * weights_N).sum(), leaves))


@given(st.integers(1, 40), st.integers(2, 60), st.integers(1, 45), st.sampled_from([0.7, 1.0, 1.5]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_values_and_gradients_are_those_of_the_whole_projection(
    positions: int, vocabulary: int, rows: int, temperature: float, bias: bool
) -> None:
    head, hidden_N_D, ids_N, weights_N = made(positions, vocabulary, bias=bias)
    forbidden = [id_ for id_ in {0, vocabulary - 1} if id_ not in ids_N.tolist()]
    leaves = [hidden_N_D, *head.parameters()]
    expected = whole(head, hidden_N_D, ids_N, temperature, forbidden)
    expected_gradients = gradients(expected, weights_N, *leaves)
    found = in_chunks(head)(hidden_N_D, ids_N, temperature, forbidden, rows)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(gradients(found, weights_N, *leaves), expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 * (1 + float(theirs.abs().max())))


def test_in_bfloat16_the_weight_s_gradient_is_no_sum_of_rounded_parts() -> None:
    head, hidden_N_D, ids_N, weights_N = made(512, 300, torch.bfloat16)
    (expected,) = gradients(whole(head, hidden_N_D, ids_N, 1.0, []), weights_N, head.weight)
    (found,) = gradients(in_chunks(head)(hidden_N_D, ids_N, rows=8), weights_N, head.weight)
    assert float((found - expected).float().norm() / expected.float().norm()) < 1e-5


def test_what_does_not_learn_has_no_gradient() -> None:
    head, hidden_N_D, ids_N, weights_N = made(10, 20)
    head.requires_grad_(False)
    (found,) = gradients(in_chunks(head)(hidden_N_D, ids_N, rows=3), weights_N, hidden_N_D)
    assert found.abs().max() > 0
    assert head.weight.grad is None


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes, in numbers."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [leaf.untyped_storage().nbytes() // 4 for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.numbers = max(self.numbers, *made, 0)
        return out


def test_no_tensor_of_tokens_times_vocabulary_is_made() -> None:
    positions, vocabulary, rows = 400, 3000, 16
    head, hidden_N_D, ids_N, weights_N = made(positions, vocabulary)
    with Largest() as plain:
        gradients(whole(head, hidden_N_D, ids_N, 1.0, []), weights_N, hidden_N_D, head.weight)
    with Largest() as chunked:
        gradients(in_chunks(head)(hidden_N_D, ids_N, rows=rows), weights_N, hidden_N_D, head.weight)
    assert plain.numbers == positions * vocabulary
    assert chunked.numbers <= max(rows * vocabulary, WIDTH * vocabulary)


def test_without_tokens_it_gives_logits() -> None:
    head, hidden_N_D, _, _ = made(3, 9)
    expected = head(hidden_N_D)
    assert torch.equal(in_chunks(head)(hidden_N_D), expected)
    assert set(head.state_dict()) == {"weight"}


def test_a_chunk_is_some_mebibytes_whatever_the_vocabulary() -> None:
    assert chunk_rows(128_256, "cuda") == 523
    assert chunk_rows(10_000_000, "cpu") == 16


def test_a_head_that_is_no_linear_layer_is_refused() -> None:
    model = nn.Module()
    model.lm_head = nn.Identity()
    with pytest.raises(TypeError, match="is a Identity, no linear layer"):
        project_in_chunks(model)
