"""What a rank keeps of an update for the ledger: a row for each response, of as many numbers as it has tokens."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import torch

from policies.batch import TrainingGroup, TrainingResponse
from policies.learnt import Learnt
from policies.losses import PolicyLossInput


def response(name: str, tokens: int) -> TrainingResponse:
    return TrainingResponse(tuple(range(tokens)), (-1.0,) * tokens, (1.0,) * tokens, name)


def seen(offset: float = 0.0) -> PolicyLossInput:
    numbers_R_T = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3) + offset
    return PolicyLossInput(
        logprobs_R_T=numbers_R_T.requires_grad_(),
        old_logprobs_R_T=numbers_R_T.detach(),
        rollout_logprobs_R_T=numbers_R_T,
        reference_logprobs_R_T=None,
        advantages_R_T=torch.tensor([[0.5], [-0.25]]),
        mask_R_T=torch.ones(2, 3),
        old_values_R_T=-numbers_R_T,
    )


def test_rows_end_where_their_responses_do_and_the_first_of_a_response_stays(tmp_path: Path) -> None:
    learnt, path = Learnt(), tmp_path / "learnt" / "step_000001.rank_0.parquet"
    learnt.add([TrainingGroup((), (1,), (response("a", 3), response("b", 1)))], seen())
    learnt.add([TrainingGroup((), (1,), (response("a", 3), response("b", 1)))], seen(offset=9.0))
    learnt.write(path)
    first, second = pq.read_table(path).to_pylist()
    assert (first["request_id"], first["old_logprobs"], first["values"]) == ("a", [0.0, 1.0, 2.0], [0.0, -1.0, -2.0])
    assert first["reference_logprobs"] is None
    assert first["advantages"] == [0.5, 0.5, 0.5]
    assert (second["request_id"], second["old_logprobs"], second["advantages"]) == ("b", [3.0], [-0.25])
    learnt.write(path.with_name("step_000002.rank_0.parquet"))
    assert [one.name for one in path.parent.iterdir()] == [path.name], "they are forgotten once they are written"


def test_demonstrations_leave_no_rows(tmp_path: Path) -> None:
    learnt = Learnt()
    learnt.add([TrainingGroup((), (1,), (response("", 3), response("", 1)))], seen())
    learnt.write(tmp_path / "none.parquet")
    assert list(tmp_path.iterdir()) == []
