"""Rows of benchmarks that cannot be used are named with file, row and mend; the others are read all the same."""

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.questions.benchmarks import published as pub

from foveate.images import ImageError, open_image
from foveate.questions import pictures
from foveate.questions.benchmarks import BENCHMARKS, benchmark_named, find_data, load_benchmark, load_named, tables
from foveate.questions.benchmarks.hub import downloaded
from foveate.questions.check import check_data
from foveate.questions.pictures import EmbeddedImage
from foveate.questions.problems import Problem, QuestionFileError

BROKEN = "!" + pub.plain(pub.png())

BAD = {
    "no picture": ("hr-bench-4k", pub.hr_row(image=None), "image is missing"),
    "broken base64": ("hr-bench-4k", pub.hr_row(image=BROKEN), "base64 that cannot be read"),
    "no image behind the base64": ("treebench", pub.tree_row(image=pub.plain(b"GIF" * 500)), "image cannot be used"),
    "answer no option": ("hr-bench-4k", pub.hr_row(answer="E"), "'E' is not one of the choices"),
    "answer an option that is absent": ("treebench", pub.tree_row(answer="E"), "'E' is not one of the choices"),
    "no question": ("treebench", pub.tree_row(question=None), "question is missing"),
    "boxes no list": ("treebench", pub.tree_row(target_instances="[1, 2"), "target_instances is no text of a list"),
    "box outside": ("treebench", pub.tree_row(target_instances="[[0, 0, 999, 9]]"), "not inside the picture"),
    "box of three": ("treebench", pub.tree_row(target_instances="[[0, 0, 9]]"), "regions[0][0] is a number"),
}


@pytest.mark.parametrize(("name", "row", "said"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_a_bad_row_is_named_and_left_out(tmp_path, suffix, name, row, said):
    good = pub.hr_row if name == "hr-bench-4k" else pub.tree_row
    write = pub.write_tsv if suffix == "tsv" else pub.write_parquet
    file = write(tmp_path / f"data.{suffix}", [good(5), row | {"index": 77}, good(6)])
    unit, number = ("line", 3) if suffix == "tsv" else ("row", 2)
    with pytest.raises(QuestionFileError) as raised:
        load_benchmark(name, file)
    [bad] = raised.value.bad_rows
    assert bad.number == number
    assert f"{unit} {number}: " in str(raised.value)
    assert str(file) in str(raised.value)
    assert said in str(raised.value)
    assert "Mend: " in str(raised.value)
    kept = load_benchmark(name, file, on_bad="quarantine")
    assert [question.id for question in kept] == [str(good(5)["index"]), str(good(6)["index"])]
    assert len(kept.write_quarantine().read_text()) < 100_000


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (pub.mme_row(**{"multi-choice options": ["(A) 1", "2"]}), 'are not all written "(A) ..."'),
        (pub.mme_row(**{"multi-choice options": ["(A) 1", "(A) 2"]}), "name a letter twice"),
        (pub.mme_row(answer="F"), "'F' is not one of the choices"),
        (pub.mme_row(bytes=None), "image is missing"),
    ],
)
def test_options_that_are_not_as_published_are_named(tmp_path, row, said):
    with pytest.raises(QuestionFileError) as raised:
        load_benchmark("mme-realworld-lite", pub.write_parquet(tmp_path / "m.parquet", [pub.mme_row(7), row]))
    assert said in str(raised.value)


def test_text_without_options_and_answers_that_are_neither_yes_nor_no(tmp_path):
    with pytest.raises(QuestionFileError, match="no lines"):
        load_benchmark("vstar", pub.write_parquet(tmp_path / "v.parquet", [pub.vstar_row(text="What?")]))
    with pytest.raises(QuestionFileError, match="neither yes nor no"):
        load_benchmark("pope", pub.write_parquet(tmp_path / "p.parquet", [pub.pope_row(answer="maybe")]))


def test_an_id_that_comes_twice_is_named_with_both_files(tmp_path):
    for config in ("Counting", "Jigsaw"):
        pub.write_parquet(tmp_path / config / "val-0.parquet", [pub.blink_row(idx="same")])
    with pytest.raises(QuestionFileError) as raised:
        load_benchmark("blink", tmp_path)
    assert "Jigsaw/val-0.parquet, row 1: id 'same' is that of Counting/val-0.parquet, row 1 too" in str(raised.value)


def test_a_further_picture_that_is_broken_is_named(tmp_path):
    row = pub.blink_row(pictures=3, image_3={"bytes": b"no picture", "path": None})
    with pytest.raises(QuestionFileError, match=r"other_images\[1\] cannot be used"):
        load_benchmark("blink", pub.write_parquet(tmp_path / "val-0.parquet", [row]))


# TSV


def test_a_file_that_was_cut_off_loses_the_last_row_alone(tmp_path):
    file = pub.write_tsv(tmp_path / "t.tsv", [pub.tree_row(n) for n in range(3)])
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(QuestionFileError, match="line 4: has 11 fields where the header has 12"):
        load_benchmark("treebench", file)
    assert len(load_benchmark("treebench", file, on_bad="quarantine")) == 2


def test_a_stray_quotation_mark_costs_one_row(tmp_path):
    file = pub.write_tsv(tmp_path / "t.tsv", [pub.tree_row(n, question="nearest?") for n in range(4)])
    lines = file.read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b"nearest?", b'"nearest?')
    file.write_bytes(b"\n".join(lines))
    kept = load_benchmark("treebench", file, on_bad="quarantine")
    assert [question.id for question in kept] == ["0", "2", "3"]
    assert [bad.number for bad in kept.bad_rows] == [3]


def test_lines_are_counted_and_pictures_found_behind_questions_over_several_lines(tmp_path):
    rows = [pub.tree_row(n, question=f'Which "one"\tis\n\nnearest, {n}?') for n in range(3)]
    file = pub.write_tsv(tmp_path / "t.tsv", [*rows, pub.tree_row(3, answer="X")])
    kept = load_benchmark("treebench", file, on_bad="quarantine")
    assert [question.text for question in kept] == [row["question"] for row in rows]
    assert [bad.number for bad in kept.bad_rows] == [2 + 3 * 3]
    for n, question in enumerate(kept):
        assert open_image(question.image).tobytes() == open_image(pub.png(n)).tobytes()


FIELDS = st.text(st.sampled_from('ab"\t\n, é'), max_size=8)


@given(st.lists(st.tuples(FIELDS, FIELDS, FIELDS), min_size=1, max_size=6))
def test_tsv_fields_are_as_the_csv_module_writes_them(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("tsv") / "t.tsv"
    rows = [("x" + first, *others) for first, *others in rows]  # a blank line is no row
    pub.write_tsv(file, [dict(zip("abc", row, strict=True)) for row in rows])
    read = [tuple(record.content[key] or "" for key in "abc") for record in tables.records(file)]
    assert read == rows


def test_windows_line_ends_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path):
    file = pub.write_tsv(tmp_path / "t.tsv", [pub.tree_row(0), pub.tree_row(1)])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    questions = load_benchmark("treebench", file)
    assert [question.id for question in questions] == ["0", "1"]
    assert open_image(questions[1].image).tobytes() == open_image(pub.png(1)).tobytes()


def test_a_row_may_give_the_index_of_the_row_that_holds_its_picture(tmp_path):
    rows = [pub.hr_row(0, cycle) for cycle in range(4)]
    for row in rows[1:]:
        row["image"] = "0"
    questions = load_benchmark("hr-bench-4k", pub.write_tsv(tmp_path / "h.tsv", rows))
    assert len({question.tags["base"] for question in questions}) == 1
    assert {open_image(question.image).tobytes() for question in questions} == {open_image(pub.png(0)).tobytes()}


def test_a_picture_of_a_row_that_comes_later_is_a_bad_row(tmp_path):
    file = pub.write_tsv(tmp_path / "h.tsv", [pub.hr_row(0, image="4"), pub.hr_row(1)])
    with pytest.raises(QuestionFileError, match="image is that of row 4, which is not before this one"):
        load_benchmark("hr-bench-4k", file)


def test_what_is_no_table_is_refused_as_a_whole(tmp_path):
    (tmp_path / "t.tsv").write_text("one column\n")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "t.json").write_text('{"a": 1}')
    (tmp_path / "t.txt").write_text("")
    for suffix in ("tsv", "parquet", "json", "txt"):
        with pytest.raises(QuestionFileError, match=rf"t\.{suffix}"):
            load_benchmark("treebench", tmp_path / f"t.{suffix}")
    with pytest.raises(QuestionFileError, match="no file of hr-bench-8k"):
        load_benchmark("hr-bench-8k", tmp_path)


# Memory


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_questions_keep_no_image_bytes_alive(tmp_path, suffix):
    large = pub.png(size=(200, 200))  # over 100 kB of noise
    write = pub.write_tsv if suffix == "tsv" else pub.write_parquet
    file = write(tmp_path / f"t.{suffix}", [pub.tree_row(n, image=pub.plain(large)) for n in range(30)])
    questions = load_benchmark("treebench", file)
    gc.collect()
    held, seen = list(questions), set()
    while held:
        one = held.pop()
        if id(one) not in seen and not isinstance(one, type):
            seen.add(id(one))
            assert not isinstance(one, bytes | str) or len(one) < 1000
            held += [
                inner for inner in gc.get_referents(one) if not callable(inner) or isinstance(inner, EmbeddedImage)
            ]
    assert len(questions) == 30
    assert any(isinstance(question.image, EmbeddedImage) for question in questions)


def test_reading_holds_a_few_rows_at_a_time(tmp_path):
    """Of 40 pictures of 1.6 MB as base64, never more than a tenth is in memory."""
    text = pub.plain(pub.png(size=(640, 640)))
    file = pub.write_tsv(tmp_path / "t.tsv", [pub.tree_row(n, image=text) for n in range(40)])
    tracemalloc.start()
    try:
        load_benchmark("treebench", file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(text) > 1_500_000
    assert peak < file.stat().st_size / 4


def test_a_picture_whose_file_changed_is_an_image_error(tmp_path):
    file = pub.write_tsv(tmp_path / "t.tsv", [pub.tree_row(0), pub.tree_row(1)])
    questions = load_benchmark("treebench", file)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ImageError, match="line 3: no picture there now"):
        open_image(questions[1].image)


def test_embedded_bytes_come_back_as_they_were(tmp_path):
    for encode in pub.ENCODINGS.values():
        assert pictures.embedded_bytes(encode(pub.png())) == pub.png()
        file = pub.write_tsv(tmp_path / "t.tsv", [pub.tree_row(encode=encode)])
        assert load_benchmark("treebench", file)[0].image.encoded() == pub.png()


# Names


def test_a_name_with_or_without_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert benchmark_named("vstar") == (BENCHMARKS["vstar"], None)
    benchmark, path = benchmark_named("treebench:/data/a:b.tsv")
    assert (benchmark.name, str(path)) == ("treebench", "/data/a:b.tsv")
    assert benchmark_named("scenes") is None
    assert benchmark_named("data/vstar") is None
    with pytest.raises(QuestionFileError, match="write where the files of vstar lie"):
        benchmark_named("vstar:")


def test_an_existing_file_with_a_colon_in_its_path_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vstar:x").mkdir()
    pub.write_picture(tmp_path / "vstar:x" / "a.png")
    row = {"id": 1, "image": "a.png", "question": "What?", "answer": "it"}
    pub.write_jsonl(tmp_path / "vstar:x" / "questions.jsonl", [row])
    assert benchmark_named("vstar:x") is None
    assert len(load_named("vstar:x")) == len(load_named("vstar:x/questions.jsonl")) == 1
    assert len(load_named(str(tmp_path / "vstar:x"))) == 1


def test_data_are_found_before_anything_is_read(tmp_path):
    file = pub.write_tsv(tmp_path / "t.tsv", [pub.tree_row(answer="X")])
    assert find_data(f"treebench:{file}") == find_data(str(file)) == file
    with pytest.raises(FileNotFoundError):
        find_data(f"treebench:{tmp_path}/nothing.tsv")


def test_data_check_reads_a_benchmark(tmp_path):
    file = pub.write_tsv(tmp_path / "t.tsv", [pub.tree_row(0), pub.tree_row(1, answer="X")])
    report = check_data(f"treebench:{file}")
    assert (report.rows, report.good, report.with_regions) == (2, 1, 1)
    assert report.sizes == (pub.SIZE,) * 3


def test_a_part_of_a_benchmark_is_read_with_a_warning(tmp_path, caplog):
    load_benchmark("treebench", pub.write_tsv(tmp_path / "t.tsv", [pub.tree_row()]))
    assert "1 questions, where treebench as published has 405" in caplog.text


def test_unknown_names_and_missing_files(tmp_path):
    with pytest.raises(QuestionFileError, match="no benchmark 'vstr'"):
        load_benchmark("vstr")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_named(f"vstar:{tmp_path}/nothing")


# The hub


@pytest.mark.parametrize("name", BENCHMARKS)
def test_without_a_network_the_error_says_how_to_give_a_path(tmp_path, monkeypatch, name):
    import huggingface_hub

    def unreachable(*args, **options):
        raise ConnectionError("no network")

    def not_cached(*args, **options):
        raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", not_cached)
    with pytest.raises(QuestionFileError, match=f"--data {name}:PATH"):
        load_named(name)


def test_only_the_files_of_the_benchmark_are_downloaded(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []
    names = ["README.md", "hr_bench_4k.parquet", "hr_bench_4k.tsv", "hr_bench_8k.parquet"]
    info = type("Info", (), {"siblings": [type("File", (), {"rfilename": name})() for name in names]})
    pub.write_parquet(tmp_path / "hr_bench_4k.parquet", [pub.hr_row()])

    def download(repo, *, repo_type, allow_patterns):
        asked.append((repo, repo_type, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, repo: info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert len(load_named("hr-bench-4k")) == 1
    assert asked == [("DreamMr/HR-Bench", "dataset", ["hr_bench_4k.parquet"])]
    info.siblings = info.siblings[:1]
    with pytest.raises(QuestionFileError, match="holds no file"):
        downloaded(BENCHMARKS["hr-bench-4k"], lambda benchmark, names: [])


def test_rows_that_are_no_rows_of_json(tmp_path):
    file = pub.write_json(tmp_path / "MME_RealWorld.json", [3])
    [record] = tables.records(file)
    assert isinstance(record.content, Problem)
