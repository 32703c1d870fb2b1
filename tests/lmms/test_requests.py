"""A task's request as a question, and what the task gets back."""

import pytest
from PIL import Image
from tests.scripted import ScriptedGenerator, picture, question

from foveate.episodes import run_episodes
from foveate.images import open_image
from foveate.lmms.requests import Decoding, TaskError, question_of, returned
from foveate.protocols import Completion, Direct, FinishReason, LocateThenAnswer, ZoomTool

BOX = '[{"bbox_2d": [280, 140, 420, 280]}]'


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


def text(words):
    return {"type": "text", "text": words}


def image(url):
    return {"type": "image", "url": url}


def test_a_question_is_the_tasks_picture_and_its_words_as_they_are():
    original = picture((3000, 2000))
    words = "What is it?\nA. cat\nB. dog\nAnswer directly."
    asked = question_of(user(image(original), text(words)), "task/test/0")
    assert (asked.id, asked.text, asked.choices, asked.verbatim) == ("task/test/0", words, None, True)
    opened = open_image(asked.image)
    assert opened.size == (3000, 2000)
    assert opened.tobytes() == original.tobytes()


def test_a_picture_may_be_a_file_and_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.jpg"
    picture((400, 200)).save(path, exif=exif)
    for source in (str(path), path.read_bytes(), Image.open(path).convert("RGB")):
        assert open_image(question_of(user(image(source), text("?")), "q").image).size == (200, 400)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (user(text("?")), "no picture"),
        (user({"type": "video", "url": "a.mp4"}, text("?")), "holds video"),
        (user({"type": "audio", "url": "a.wav"}, image(picture()), text("?")), "holds audio"),
        ([{"role": "system", "content": [text("Be brief.")]}, *user(image(picture()))], "role 'system'"),
        (user(image(3), text("?")), "its picture is int"),
    ],
    ids=["text only", "video", "audio", "system", "no picture's type"],
)
def test_what_cannot_be_asked_is_named(messages, reason):
    with pytest.raises(TaskError, match=reason) as raised:
        question_of(messages, "mmmu/test/7")
    assert "mmmu/test/7" in str(raised.value)


@pytest.mark.parametrize(
    ("gen_kwargs", "expected"),
    [
        ({}, Decoding()),
        ({"temperature": 0, "do_sample": False, "top_p": 0.9, "top_k": 50, "num_beams": 1}, Decoding()),
        ({"temperature": None, "top_p": None, "num_beams": None}, Decoding()),
        ({"temperature": 0.7, "do_sample": False}, Decoding()),
        ({"temperature": 0.7}, Decoding(0.7)),
        ({"temperature": 0.7, "top_p": 1.0, "top_k": 0}, Decoding(0.7)),
        ({"do_sample": True}, Decoding(1.0)),
        ({"max_new_tokens": 16, "until": "\n\n"}, Decoding(0.0, 16, ("\n\n",))),
        ({"until": ["\n", "", "###"], "modalities": ["image"]}, Decoding(until=("\n", "###"))),
    ],
)
def test_how_replies_are_drawn(gen_kwargs, expected):
    assert Decoding.of(gen_kwargs) == expected


@pytest.mark.parametrize(
    "gen_kwargs", [{"num_beams": 3}, {"temperature": 1.0, "top_p": 0.9}, {"do_sample": True, "top_k": 50}]
)
def test_a_way_of_sampling_that_there_is_not_is_refused_with_the_mend(gen_kwargs):
    name = list(gen_kwargs)[-1]
    with pytest.raises(TaskError, match=rf"{name}={gen_kwargs[name]}.*--gen_kwargs {name}="):
        Decoding.of(gen_kwargs)


def episode(protocol, *replies):
    [[_, [run]]] = run_episodes([question(choices=None, verbatim=True)], protocol, ScriptedGenerator(replies))
    return run


def spelt(words):
    """A reply whose tokens are its characters."""
    return Completion(tuple(map(ord, words)), (), words, FinishReason.END)


def decoded(ids):
    return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("decoding", "expected"),
    [
        (Decoding(), "(B) a dog\nsurely."),
        (Decoding(max_new_tokens=3), "(B)"),
        (Decoding(max_new_tokens=17), "(B) a dog\nsurely."),
        (Decoding(until=("\n",)), "(B) a dog"),
        (Decoding(until=("dog", ")")), "(B"),
        (Decoding(max_new_tokens=6, until=("\n",)), "(B) a "),
    ],
)
def test_only_the_answers_reply_is_returned_and_only_it_is_cut(decoding, expected):
    run = episode(LocateThenAnswer(), BOX, spelt("(B) a dog\nsurely."))
    assert returned(run, decoding, decoded) == expected


def test_a_reply_is_returned_as_written_not_as_we_read_it():
    assert returned(episode(Direct(), "The answer is \\boxed{B}."), Decoding(), decoded) == "The answer is \\boxed{B}."


@pytest.mark.parametrize(
    "run",
    [
        episode(LocateThenAnswer(), "I see nothing."),
        episode(ZoomTool(max_calls=1), *[f"<tool_call>{BOX}</tool_call>"] * 2),
    ],
    ids=["no region", "out of calls"],
)
def test_nothing_is_returned_of_an_episode_without_an_answer_turn(run):
    assert returned(run, Decoding(), decoded) == ""


def test_further_pictures_follow_the_first():
    shown = [picture(), picture(), picture()]
    asked = question_of(user(image(shown[0]), text("The same as"), image(shown[1]), image(shown[2]), text("?")), "t")
    assert [source() for source in (asked.image, *asked.others)] == shown
    assert asked.text == "The same as\n?"
