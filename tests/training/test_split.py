"""D_RL and D_SFT: disjoint, seeded, recorded."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models import make_question

from foveate.recipes import Split
from foveate.training.split import SplitError, ids_of, record_split, refuse_shared, split_questions


def questions(count: int) -> list:
    return [make_question(f"q{i}") for i in range(count)]


def ids(part) -> list[str]:
    return [question.id for question in part]


@given(count=st.integers(2, 60), share=st.floats(0.02, 0.98), seed=st.integers(-5, 5))
def test_every_question_is_in_exactly_one_part(count: int, share: float, seed: int) -> None:
    data = questions(count)
    wanted = int(share * count)
    settings = Split(sft_share=share, seed=seed)
    if not 0 < wanted < count:
        with pytest.raises(SplitError, match="cannot be split"):
            split_questions(data, settings)
        return
    parts = split_questions(data, settings)
    assert len(parts["sft"]) == wanted
    assert not set(ids(parts["rl"])) & set(ids(parts["sft"]))
    assert sorted(ids(parts["rl"]) + ids(parts["sft"])) == sorted(ids(data))


def test_the_seed_and_the_ids_decide_and_the_order_of_the_file_does_not() -> None:
    data = questions(40)
    first, again, other = (ids(split_questions(data, Split(seed=seed))["sft"]) for seed in (0, 0, 1))
    assert first == again != other
    shuffled = random.Random(0).sample(data, len(data))
    assert sorted(ids(split_questions(shuffled, Split())["sft"])) == sorted(first)
    more = ids(split_questions([*data, make_question("new")], Split(sft_count=20))["sft"])
    assert len(set(more) & set(first)) >= 19


def test_a_count_comes_before_the_share() -> None:
    parts = split_questions(questions(40), Split(sft_share=0.5, sft_count=7))
    assert (len(parts["rl"]), len(parts["sft"])) == (33, 7)
    with pytest.raises(SplitError, match=r"40 questions cannot be split with split\.sft_count=40"):
        split_questions(questions(40), Split(sft_count=40))


def test_the_papers_share_leaves_ten_thousand_for_rl() -> None:
    assert 21_690 - int(0.539 * 21_690) == 10_000


def test_a_part_is_a_sequence() -> None:
    part = split_questions(questions(10), Split())["rl"]
    assert part[-1] == list(part)[-1]
    assert part[1:3] == list(part)[1:3]


def test_a_question_in_both_is_named() -> None:
    with pytest.raises(SplitError, match="'q2' is in both D_RL and D_SFT"):
        refuse_shared({"rl": ids(questions(3)), "sft": ["other", "q2"]})
    twice = [*questions(9), *[make_question("twice")] * 30]
    with pytest.raises(SplitError, match="'twice' is in both"):
        split_questions(twice, Split())


def test_the_record_is_lists_of_ids_and_holds_a_resumed_run_to_them(tmp_path: Path) -> None:
    file, data = tmp_path / "split.json", questions(10)
    parts = split_questions(data, Split())
    record_split(file, ids_of(parts))
    assert json.loads(file.read_text()) == {"rl": ids(parts["rl"]), "sft": ids(parts["sft"])}
    record_split(file, ids_of(split_questions(data, Split())))
    with pytest.raises(SplitError, match="has changed since"):
        record_split(file, ids_of(split_questions(data[1:], Split())))
