"""Reward terms: what is paid for."""

import pytest
from tests.scripted import ScriptedGenerator, question

from foveate.episodes import run_episodes
from foveate.protocols import LocateThenAnswer
from foveate.rewards import TERMS, accuracy, format_valid, reward_terms, total_reward

CARD = "[112, 56, 168, 112]"


def episode(*replies, **changes):
    ((_, (made,)),) = run_episodes([question(**changes)], LocateThenAnswer(), ScriptedGenerator(replies))
    return made


@pytest.mark.parametrize(
    ("reply", "reward"),
    [("\\boxed{B}", 1.0), ("B", 1.0), ("a dog", 1.0), ("\\boxed{A}", 0.0), ("A dog and a cat", 0.0), ("", 0.0)],
)
def test_the_right_letter_is_paid(reply, reward):
    assert accuracy(episode(CARD, reply)) == reward


@pytest.mark.parametrize(
    ("reply", "reward"),
    [("7", 1.0), ("\\boxed{7.0}", 1.0), ("The answer is 7.", 1.0), ("17", 0.0), ("It is 7", 0.0), ("", 0.0)],
)
def test_the_right_open_answer_is_paid(reply, reward):
    assert accuracy(episode(CARD, reply, choices=None, answer="7")) == reward


def test_letters_are_compared_exactly():
    assert accuracy(episode(CARD, "b", answer="B")) == 1.0  # read as the letter B
    assert accuracy(episode(CARD, "1", choices={"1": "one", "1.0": "uno"}, answer="1.0")) == 0.0


def test_an_episode_without_an_answer_is_paid_nothing():
    assert accuracy(episode("no box")) == 0.0


def test_the_format_is_valid_when_every_turn_is():
    assert format_valid(episode(CARD, "B")) == 1.0
    assert format_valid(episode(CARD, "?")) == 0.0
    assert format_valid(episode("no box")) == 0.0
    assert format_valid(episode(f"[{CARD}, [0, 0, 9999, 1]]", "B")) == 0.0


def test_terms_are_logged_by_name_and_summed_with_their_weights():
    made = episode(CARD, "B")
    weights = {"accuracy": 1.0, "format": 0.25}
    terms = reward_terms(made, weights)
    assert terms == {"accuracy": 1.0, "format": 1.0}
    assert total_reward(terms, weights) == 1.25
    assert total_reward({}, weights) == 0.0
    assert set(weights) <= set(TERMS)


def test_an_unknown_term_is_refused():
    with pytest.raises(KeyError, match="beauty"):
        reward_terms(episode(CARD, "B"), {"beauty": 1.0})
