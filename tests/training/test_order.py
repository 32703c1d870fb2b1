"""How the questions of a step are shared out among processes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from foveate.training.order import share_of

INDICES = st.lists(st.integers(0, 12), min_size=1, max_size=40)


@given(indices=INDICES, per_update=st.none() | st.integers(1, 12), processes=st.integers(1, 9))
def test_every_question_of_every_update_is_one_processs(indices, per_update, processes) -> None:
    shares = [share_of(indices, per_update, one, processes) for one in range(processes)]
    size = per_update or len(indices)
    updates = [list(range(first, min(first + size, len(indices)))) for first in range(0, len(indices), size)]
    assert [len(update) for update in updates] == list(shares[0].sizes)
    for number, update in enumerate(updates):
        assert sorted(place for share in shares for place in share.own[number]) == update
    homes = {}
    for rank, share in enumerate(shares):
        assert list(share.numbers) == sorted(share.numbers)
        for place in share.numbers:  # a question that comes again stays where it was
            assert homes.setdefault(indices[place], rank) == rank


@given(total=st.integers(1, 40), per_update=st.none() | st.integers(1, 12), processes=st.integers(1, 9))
def test_different_questions_are_shared_out_evenly(total, per_update, processes) -> None:
    loads = zip(
        *(map(len, share_of(range(total), per_update, one, processes).own) for one in range(processes)), strict=True
    )
    assert all(max(update) - min(update) <= 1 for update in loads)


def test_things_of_questions_fall_into_their_updates() -> None:
    share = share_of(range(10, 15), 3, 1, 2)
    assert share.own == ((1,), (4,))
    assert share.updates(["b", "e"], list("abcde")) == [(["b"], ["a", "b", "c"]), (["e"], ["d", "e"])]
