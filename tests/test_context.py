"""Contexts: what a generation is conditioned on."""

import dataclasses

import pytest
from PIL import Image

from foveate.context import Context, Message, Sampled
from foveate.images import PixelBudget, crop_view, full_view
from foveate.regions import Box

IMAGE = Image.new("RGB", (280, 140))
BUDGET = PixelBudget(784, 784 * 50)


def card(x=28):
    return crop_view(IMAGE, Box(x, 0, x + 56, 56), BUDGET, 28)


def test_contexts_grow_without_changing():
    first = Context.user(card(), "red")
    second = first.then(Message("assistant", (Sampled((7, 1)),)), Message("user", ("blue",)))
    assert len(first.messages) == 1
    assert second.messages[:1] == first.messages
    assert [message.role for message in second.messages] == ["user", "assistant", "user"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.messages = ()


def test_views_come_in_order():
    full, one, two = full_view(IMAGE, BUDGET, 28), card(), card(84)
    context = Context((Message("system", ("words",)), Message("user", (full, "a", one)), Message("user", (two,))))
    assert context.views == (full, one, two)
    assert Context.user("words").views == ()


def test_keys_are_equal_where_the_model_is_shown_the_same():
    """Views are made anew for each episode; what they show decides."""
    assert Context.user(card(), "red").key == Context.user(card(), "red").key
    assert hash(Context.user(card(), "red").key) == hash(Context.user(card(), "red").key)


@pytest.mark.parametrize(
    "other",
    [
        Context.user(card(), "blue"),
        Context.user(card(84), "red"),
        Context.user(card(), card(), "red"),
        Context.user("red", card()),
        Context.user(card(), "re", "d"),
        Context.user(card()),
        Context((Message("system", (card(), "red")),)),
        Context.user(card(), "red").then(Message("assistant", (Sampled((7,)),))),
        Context.user(card(), "red").then(Message("user", ())),
    ],
)
def test_keys_differ_where_it_is_not(other):
    assert Context.user(card(), "red").key != other.key


def test_what_was_sampled_is_part_of_the_key():
    def after(*ids):
        return Context.user("red").then(Message("assistant", (Sampled(ids),))).key

    assert after(7, 1) == after(7, 1)
    assert after(7, 1) != after(8, 1)
    assert after(7) != after(7, 1)


@pytest.mark.parametrize(
    ("role", "parts"),
    [
        ("assistant", ()),
        ("assistant", ("words",)),
        ("assistant", (Sampled((7,)), "words")),
        ("assistant", (Sampled((7,)), Sampled((7,)))),
        ("user", (Sampled((7,)),)),
        ("system", ("words", Sampled((7,)))),
    ],
)
def test_only_an_assistants_message_is_sampled_and_nothing_but(role, parts):
    with pytest.raises(ValueError, match=role):
        Message(role, parts)
