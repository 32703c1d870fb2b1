"""lmms-eval itself, on a local task, against our own evaluation of the same questions.

It runs where lmms-eval is installed (`scripts/lmms_eval_check.sh` makes such an environment), in processes of its own.
`FOVEATE_LMMS_MODEL` names another model than the embedded one.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foveate.cli import app
from foveate.jsonl import read_rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("lmms_eval") is None, reason="needs lmms-eval"),
]
MODEL = os.environ.get("FOVEATE_LMMS_MODEL", "tiny")
TASKS = {"foveate_scenes_open": "data", "foveate_scenes_choice": "choices"}
QUESTIONS = 100


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with the data of both tasks."""
    folder = tmp_path_factory.mktemp("work")
    for name, more in (("data", ["--seed", "1000007"]), ("choices", ["--seed", "1000008", "--multiple-choice"])):
        command("data", "scenes", "--n", str(QUESTIONS), "--out", str(folder / name), *more)
    return folder


def command(*words):
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output


def lmms_eval(
    work, out, *more, model_args=(), tasks=tuple(TASKS), start=("-m",), folder=Path(__file__).parent / "task"
):
    """Runs it in a process of its own; all that it printed."""
    words = [
        *("lmms_eval", "--model", "foveate", "--tasks", ",".join(tasks)),
        *("--model_args", ",".join([f"pretrained={MODEL}", *model_args])),
        *("--include_path", str(folder), "--batch_size", "16"),
        *("--log_samples", "--output_path", str(out), *more),
    ]
    alone = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(work / "hf"), "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(
        [sys.executable, *start, *words],
        cwd=work,
        env={**os.environ, **alone},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,  # which says little: after an error of the model it ends with 0 too
    )
    return done.stdout


def logged(work, out, *more, tasks=tuple(TASKS), **how):
    """The rows that it logs of each task's questions, in order."""
    printed = lmms_eval(work, out, *more, tasks=tasks, **how)
    rows = {}
    for task in tasks:
        files = list(out.rglob(f"*_samples_{task}.jsonl"))
        assert len(files) == 1, printed[-3000:]
        rows[task] = sorted(read_rows(files[0]), key=lambda row: row["doc_id"])
    return rows


def our_rows(work, out, name, protocol):
    """What `foveate eval` writes of each question, in order."""
    file = out / f"{name}.json"
    set_protocol = ["--set", f"protocol.name={protocol}"]
    command("eval", "--data", str(work / name), "--model", MODEL, *set_protocol, "--json", str(file))
    return read_rows(file.with_suffix(".questions.jsonl"))


@pytest.mark.parametrize(("protocol", "turns"), [("locate_answer", 2), ("direct", 1)])
def test_both_give_the_same_answer_to_every_question(work, tmp_path, protocol, turns):
    arguments = [f"protocol={protocol}", f"traces={tmp_path / 'traces'}"]
    samples = logged(work, tmp_path / "theirs", model_args=arguments)
    for task, name in TASKS.items():
        ours = our_rows(work, tmp_path, name, protocol)
        traces = sorted(read_rows(tmp_path / "traces" / f"{task}.jsonl"), key=lambda row: row["doc_id"])
        theirs = samples[task]
        assert len(theirs) == len(traces) == len(ours) == QUESTIONS
        attempts = [row["attempts"][0] for row in ours]
        assert [row["returned"] for row in traces] == [
            attempt["texts"][-1] if len(attempt["texts"]) == turns else "" for attempt in attempts
        ]
        assert [answer(row) for row in theirs] == [attempt["answer"] for attempt in attempts]
        assert [row["exact_match"] == 1 for row in theirs] == [attempt["right"] for attempt in attempts]
        right = sum(attempt["right"] for attempt in attempts)
        print(f"\n{task}, {protocol}: {right} of {QUESTIONS} right, in lmms-eval and in foveate eval, answer by answer")
        assert 0 < right < QUESTIONS  # two models that are always or never right would agree whatever they see
        assert len({attempt["answer"] for attempt in attempts}) > 3
        assert {tuple(row["image_size"]) for row in traces} == {(1024, 1024)}


def answer(row):
    """As we write it: no answer is None, a letter stands without its brackets."""
    said = row["filtered_resps"]
    said = said[0] if isinstance(said, list) else said
    return None if said in ("", "[invalid]") else said.strip("()")


OPEN = "foveate_scenes_open"


def answers(work, out, *more, **how):
    """To the first questions of the open task."""
    [rows] = logged(work, out, "--limit", "21", *more, tasks=[OPEN], **how).values()
    return [(row["doc_id"], answer(row), row["exact_match"]) for row in rows]


def test_answers_from_the_result_cache_are_the_same_and_ask_no_model(work, tmp_path):
    cache, traces = ("--use_cache", str(tmp_path / "cache")), [f"traces={tmp_path / 'traces'}"]
    first = answers(work, tmp_path / "first", *cache, model_args=traces)
    assert answers(work, tmp_path / "second", *cache, model_args=traces) == first
    asked = [row["doc_id"] for row in read_rows(tmp_path / "traces" / f"{OPEN}.jsonl")]
    unanswered = [doc_id for doc_id, said, _ in first if said is None]  # lmms-eval keeps no empty reply
    assert sorted(asked[:21]) == list(range(21))
    assert sorted(asked[21:]) == unanswered


def test_two_processes_give_the_answers_of_one(work, tmp_path):
    two = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    traces = tmp_path / "traces"
    shared = answers(work, tmp_path / "two", start=two, model_args=[f"traces={traces}"])
    assert shared == answers(work, tmp_path / "one")
    asked = [{row["doc_id"] for row in read_rows(traces / f"rank-{rank}" / f"{OPEN}.jsonl")} for rank in (0, 1)]
    assert asked == [set(range(0, 21, 2)), set(range(1, 21, 2))]


VSTAR = """
include: {shipped}
task: vstar_of_scenes
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
"""


def test_a_task_that_ships_with_lmms_eval_is_asked_in_its_own_words_about_its_own_pixels(work, tmp_path):
    """V*'s words, options and scorer, on scenes in place of its photographs, which are not to be had here."""
    import datasets

    shipped = Path(importlib.util.find_spec("lmms_eval").submodule_search_locations[0]) / "tasks" / "vstar_bench"
    asked = read_rows(work / "choices" / "questions.jsonl")[:4]
    rows = [
        {
            "image": str(work / "choices" / row["image"]),
            "text": " ".join([row["question"], *(f"({letter}) {text}" for letter, text in row["choices"].items())]),
            "label": row["answer"],
            "category": "direct_attributes",
            "question_id": row["id"],
        }
        for row in asked
    ]
    data = tmp_path / "vstar.parquet"
    datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()).to_parquet(data)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "vstar.yaml").write_text(VSTAR.format(shipped=shipped / "vstar_bench.yaml", data=data))
    traces = tmp_path / "traces"
    arguments = [f"traces={traces}", "protocol.without_region=full_image"]
    logged(work, tmp_path / "out", model_args=arguments, tasks=["vstar_of_scenes"], folder=tasks)
    closing = "Answer with the option's letter from the given choices directly."
    for row, trace in zip(asked, read_rows(traces / "vstar_of_scenes.jsonl"), strict=True):
        options = [f"{letter}. {text}" for letter, text in row["choices"].items()]
        assert trace["text"] == "\n".join([row["question"], *options, closing])
        assert trace["image_size"] == [1024, 1024]
        assert len(trace["turns"]) == 2
        assert trace["returned"] == trace["turns"][1]["text"] != ""


def test_an_unknown_argument_is_named(work, tmp_path):
    printed = lmms_eval(work, tmp_path, model_args=["max_pixel=100"])
    assert "Error during evaluation: foveate has no argument max_pixel; there are pretrained, " in printed
