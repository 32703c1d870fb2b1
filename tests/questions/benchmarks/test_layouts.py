"""Every benchmark is read from every layout in which it is published, with options, letters and boxes as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.questions.benchmarks import published as pub

from foveate.images import open_image
from foveate.questions.benchmarks import load_benchmark
from foveate.questions.benchmarks.layouts import box_format, corners_of, inline_options
from foveate.questions.problems import QuestionFileError
from foveate.regions import Box


def pixels(source):
    return open_image(source).tobytes()


def same_picture(question, seed):
    return pixels(question.image) == pixels(pub.png(seed))


@pytest.fixture
def hr_rows():
    return [pub.hr_row(n, cycle) for n in range(2) for cycle in range(4)]


# V* Bench


def test_vstar_from_the_hub(tmp_path):
    rows = [pub.vstar_row(0), pub.vstar_row(1, category="relative_position", label="D")]
    pub.write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", rows)
    first, second = load_benchmark("vstar", tmp_path)
    assert first.text == "What is the material of the glove?"
    assert first.choices == {"A": "rubber", "B": "cotton", "C": "kevlar", "D": "leather"}
    assert (first.id, first.answer, first.category) == ("0", "B", "direct_attributes")
    assert (second.answer, second.category) == ("D", "relative_position")
    assert same_picture(first, 0)
    assert same_picture(second, 1)


def test_vstar_as_json_lines_beside_its_folders(tmp_path):
    pub.write_picture(tmp_path / "direct" / "a.jpg", 3)
    file = pub.write_jsonl(tmp_path / "test_questions.jsonl", [pub.vstar_row(image="direct/a.jpg")])
    [question] = load_benchmark("vstar", file)
    assert question.image == tmp_path / "direct" / "a.jpg"


def test_an_option_may_go_on_in_the_next_line_and_the_instruction_is_no_part_of_the_last(tmp_path):
    text = (
        "Which?\n(A) on the\nleft\n(B) on the right\nAnswer with the option's letter from the given choices directly."
    )
    file = pub.write_parquet(tmp_path / "v.parquet", [pub.vstar_row(text=text)])
    [question] = load_benchmark("vstar", file)
    assert question.choices == {"A": "on the\nleft", "B": "on the right"}


def write_vstar_folders(root, count=20):
    for n in range(count):
        pub.write_picture(root / "direct_attributes" / f"sa_{n}.jpg", n)
        pub.write_json(root / "direct_attributes" / f"sa_{n}.json", pub.vstar_file())
    pub.write_picture(root / "relative_position" / "sa_0.png")
    two = pub.vstar_file(bbox=[[0, 0, 5, 6], [10, 10, 38, 22]], options=["Left.", "Right."])
    pub.write_json(root / "relative_position" / "sa_0.json", two)
    return root


def test_vstar_folders_give_boxes_as_corners(tmp_path):
    questions = load_benchmark("vstar", write_vstar_folders(tmp_path))
    by_id = {question.id: question for question in questions}
    assert by_id["direct_attributes/sa_3"].regions == ((Box(10, 5, 30, 15),),)
    assert by_id["direct_attributes/sa_3"].category == "direct_attributes"
    assert by_id["relative_position/sa_0"].regions == ((Box(0, 0, 5, 6),), (Box(10, 10, 48, 32),))
    assert same_picture(by_id["direct_attributes/sa_7"], 7)


def test_vstar_folders_put_the_right_option_anywhere_and_always_in_the_same_place(tmp_path):
    questions = load_benchmark("vstar", write_vstar_folders(tmp_path))
    for question in questions:
        right = "Left." if question.category == "relative_position" else "The glove is of rubber."
        assert question.choices[question.answer] == right
    answers = [question.answer for question in questions]
    assert set(answers) == {"A", "B", "C"}
    assert [question.answer for question in load_benchmark("vstar", tmp_path)] == answers


def test_a_vstar_file_without_its_picture_is_named(tmp_path):
    write_vstar_folders(tmp_path, 2)
    (tmp_path / "direct_attributes" / "sa_1.jpg").unlink()
    with pytest.raises(
        QuestionFileError, match=r"direct_attributes/sa_1.json, row 2: image .*sa_1.jpg' does not exist"
    ):
        load_benchmark("vstar", tmp_path)


# HR-Bench


@pytest.mark.parametrize("encode", pub.ENCODINGS.values(), ids=pub.ENCODINGS)
@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
@pytest.mark.parametrize("name", ["hr-bench-4k", "hr-bench-8k"])
def test_hr_bench(tmp_path, name, suffix, encode):
    rows = [pub.hr_row(n, cycle, encode) for n in range(2) for cycle in range(4)]
    size = name[-2:]
    write = pub.write_tsv if suffix == "tsv" else pub.write_parquet
    write(tmp_path / f"hr_bench_{size}.{suffix}", rows)
    questions = load_benchmark(name, tmp_path)
    assert [question.choices[question.answer] for question in questions] == ["green"] * 8
    assert [question.tags["cycle"] for question in questions] == list("0123") * 2
    assert [question.category for question in questions] == ["cross"] * 4 + ["single"] * 4
    assert all(same_picture(question, n // 4) for n, question in enumerate(questions))


def test_rotations_of_one_question_share_their_base_wherever_they_stand(tmp_path, hr_rows):
    order = [3, 6, 0, 5, 1, 7, 2, 4]
    file = pub.write_tsv(tmp_path / "hr.tsv", [hr_rows[place] for place in order])
    base = {question.id: question.tags["base"] for question in load_benchmark("hr-bench-4k", file)}
    assert len({base[str(n)] for n in range(4)}) == len({base[str(n)] for n in range(4, 8)}) == 1
    assert base["0"] != base["4"]


def test_the_same_words_about_another_picture_are_another_base(tmp_path):
    rows = [pub.hr_row(), pub.hr_row(index=9, image=pub.plain(pub.png(5)))]
    first, second = load_benchmark("hr-bench-4k", pub.write_tsv(tmp_path / "hr.tsv", rows))
    assert first.tags["base"] != second.tags["base"]


# MME-RealWorld


@pytest.mark.parametrize("name", ["mme-realworld", "mme-realworld-lite"])
@pytest.mark.parametrize("encode", pub.ENCODINGS.values(), ids=pub.ENCODINGS)
def test_mme_realworld_from_the_hub(tmp_path, name, encode):
    pub.write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [pub.mme_row(0, encode), pub.mme_row(1)])
    first, second = load_benchmark(name, tmp_path)
    assert first.choices == dict(zip("ABCDE", [o[4:] for o in pub.MME_OPTIONS], strict=True))
    assert first.answer == "E"
    assert first.category == "Perception/Remote Sensing"
    assert first.tags == {"task": "Perception", "subtask": "Remote Sensing", "l2_category": "count"}
    assert same_picture(first, 0)
    assert same_picture(second, 1)


def test_options_may_be_the_text_of_a_list(tmp_path):
    file = pub.write_parquet(tmp_path / "m.parquet", [pub.mme_row(**{"multi-choice options": str(pub.MME_OPTIONS)})])
    [question] = load_benchmark("mme-realworld", file)
    assert question.choices["E"] == "The image does not feature the object."


@pytest.mark.parametrize("folder", ["", "images"])
def test_mme_realworld_original_says_the_same_as_the_hub(tmp_path, folder):
    pub.write_picture(tmp_path / folder / "0.png")
    file = pub.write_json(tmp_path / "MME_RealWorld.json", [pub.mme_original()])
    [original] = load_benchmark("mme-realworld", tmp_path)
    [hub] = load_benchmark("mme-realworld", pub.write_parquet(tmp_path / "hub.parquet", [pub.mme_row()]))
    for name in ("text", "choices", "answer", "category", "tags"):
        assert getattr(original, name) == getattr(hub, name)
    assert original.image == file.parent / folder / "0.png"


# TreeBench


@pytest.mark.parametrize("write", [pub.write_tsv, pub.write_parquet])
def test_treebench(tmp_path, write):
    rows = [pub.tree_row(), pub.tree_row(1, E="train", F="plane", answer="F", target_instances=None)]
    first, second = load_benchmark("treebench", write(tmp_path / f"t.{write.__name__[6:]}", rows))
    assert list(first.choices) == list("ABCD")
    assert list(second.choices) == list("ABCDEF")
    assert first.regions == ((Box(1, 2, 11, 12),), (Box(20.5, 3, 40, 30),))
    assert second.regions == ()
    assert first.category == "Perception/Attributes"


def test_options_that_are_not_a_number_are_left_out(tmp_path):
    """pandas writes NaN into a Parquet column of texts in which some are absent."""
    rows = [pub.tree_row(E=float("nan"), F=float("nan"))]
    [question] = load_benchmark("treebench", pub.write_parquet(tmp_path / "t.parquet", rows))
    assert list(question.choices) == list("ABCD")


# MMStar


def test_mmstar(tmp_path):
    pub.write_parquet(tmp_path / "mmstar.parquet", [pub.star_row()])
    [question] = load_benchmark("mmstar", tmp_path)
    assert question.text == "Where is the suitcase?"
    assert question.choices == {"A": "On the book.", "B": "Under the cat", "C": "In B: the box.", "D": "Away."}
    assert question.answer == "B"
    assert question.tags == {"l2_category": "image scene and topic"}


def test_mmstar_keeps_options_that_it_cannot_tell_apart_in_the_question(tmp_path):
    file = pub.write_parquet(tmp_path / "mmstar.parquet", [pub.star_row(question="Which? one or two")])
    [question] = load_benchmark("mmstar", file)
    assert question.text == "Which? one or two"
    assert question.choices == {letter: letter for letter in "ABCD"}


def test_mmstar_keeps_options_of_which_the_answer_was_not_told_apart(tmp_path):
    question = "Which?\nOptions: A: one, B: two. C: three, D: four"
    [read] = load_benchmark(
        "mmstar", pub.write_parquet(tmp_path / "m.parquet", [pub.star_row(question=question, answer="D")])
    )
    assert (read.text, read.choices[read.answer]) == (question, "D")


WORDS = st.text(st.sampled_from("abcdefgh ."), min_size=1, max_size=12).map(str.strip).filter(bool)


@given(WORDS, st.lists(WORDS, min_size=2, max_size=8))
def test_inline_options_come_back(asked, options):
    text = f"{asked}\nOptions: " + ", ".join(f"{chr(65 + n)}: {option}" for n, option in enumerate(options))
    assert inline_options(text) == (asked, {chr(65 + n): option for n, option in enumerate(options)})


# BLINK


def test_blink_keeps_each_picture_in_its_place(tmp_path):
    pub.write_parquet(tmp_path / "Relative_Depth" / "val-00000-of-00001.parquet", [pub.blink_row(0, 1)])
    pub.write_parquet(tmp_path / "Jigsaw" / "val-00000-of-00001.parquet", [pub.blink_row(1, 3, "Jigsaw")])
    pub.write_parquet(tmp_path / "Jigsaw" / "test-00000-of-00001.parquet", [pub.blink_row(2, 3, "Jigsaw")])
    three, one = load_benchmark("blink", tmp_path)
    assert (one.answer, one.category, one.tags) == ("B", "Relative_Depth", {"config": "Relative_Depth"})
    assert one.choices == {"A": "A is closer", "B": "B is closer"}
    assert one.others == ()
    assert same_picture(three, 11)
    assert [pixels(other) for other in three.others] == [pixels(pub.png(12)), pixels(pub.png(13))]


def test_blink_takes_the_configuration_from_the_folder(tmp_path):
    row = pub.blink_row()
    del row["sub_task"], row["idx"]
    file = pub.write_parquet(tmp_path / "Counting" / "val-00000-of-00001.parquet", [row])
    [question] = load_benchmark("blink", file)
    assert (question.id, question.category) == ("Counting/1", "Counting")


# POPE


def test_pope_ids_are_unique_over_its_categories(tmp_path):
    rows = [pub.pope_row(n, category) for category in ("adversarial", "popular", "random") for n in range(2)]
    pub.write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", rows)
    pub.write_parquet(tmp_path / "Full" / "random-00000-of-00001.parquet", rows[-2:])
    questions = load_benchmark("pope", tmp_path)
    assert len({question.id for question in questions}) == len(questions) == 6
    assert all(question.choices is None and question.answer == "yes" for question in questions)


# Visual CoT


@pytest.mark.parametrize("folder", ["", "textvqa", "images", "cot_images/textvqa"])
@pytest.mark.parametrize("whole", [False, True], ids=["file", "folder"])
def test_visual_cot(tmp_path, folder, whole):
    picture = pub.write_picture(tmp_path / folder / "a.png")
    file = pub.write_jsonl(tmp_path / "metadata" / "textvqa_cot_train.jsonl", [pub.cot_row(), pub.cot_row(bboxs=[])])
    first, second = load_benchmark("visual-cot", tmp_path if whole else file)
    assert first.image == second.image == picture
    assert first.regions == ((Box(10, 5, 30, 25),),)
    assert second.regions == ()
    assert (first.answer, first.choices, first.category, first.tags) == ("stop", None, "textvqa", {"split": "train"})
    assert first.id != second.id


def test_visual_cot_boxes_are_sizes_where_the_file_shows_it(tmp_path, caplog):
    """The first box could be either; the second cannot be corners, and both can be sizes."""
    pub.write_picture(tmp_path / "a.png")
    rows = [pub.cot_row(bboxs=[[10, 5, 30, 25]]), pub.cot_row(bboxs=[[30, 20, 10, 10]])]
    file = pub.write_jsonl(tmp_path / "gqa.jsonl", rows)
    first, second = load_benchmark("visual-cot", file)
    assert first.regions == ((Box(10, 5, 40, 30),),)
    assert second.regions == ((Box(30, 20, 40, 30),),)
    assert "x, y, width, height" in caplog.text


def test_visual_cot_boxes_that_fit_neither_way_are_named_as_corners(tmp_path):
    pub.write_picture(tmp_path / "a.png")
    rows = [pub.cot_row(bboxs=[[30, 20, 40, 30]]), pub.cot_row(bboxs=[[30, 20, 10, 10]])]
    file = pub.write_jsonl(tmp_path / "gqa.jsonl", rows)
    with pytest.raises(QuestionFileError, match="1 of 2 rows"):
        load_benchmark("visual-cot", file)


@pytest.mark.parametrize(("boxes", "corner"), [("xyxy", 30), ("xywh", 40)])
def test_visual_cot_boxes_are_what_the_caller_says(tmp_path, boxes, corner):
    pub.write_picture(tmp_path / "a.png")
    file = pub.write_jsonl(tmp_path / "gqa.jsonl", [pub.cot_row(bboxs=[[10, 5, 30, 25]])])
    [question] = load_benchmark("visual-cot", file, boxes=boxes)
    assert question.regions[0][0].x2 == corner


def test_boxes_of_a_benchmark_that_writes_them_in_one_way_are_not_for_the_caller_to_say(tmp_path):
    with pytest.raises(ValueError, match="always written in the same way"):
        load_benchmark("treebench", tmp_path, boxes="xywh")


@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(1, 10), st.integers(1, 10)),
        min_size=1,
        max_size=9,
    )
)
def test_corners_are_never_taken_for_sizes_and_one_impossible_corner_tells_sizes(sizes):
    def rows(boxes):
        return [{"width": 100, "height": 100, "bboxs": [list(box)]} for box in boxes]

    assert box_format(rows(corners_of(list(box)) for box in sizes)) == "xyxy"
    assert box_format(rows([*sizes, (50, 50, 10, 10)])) == "xywh"
