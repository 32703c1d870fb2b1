"""Tasks run in order, side by side, and fail alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.study import chores

from foveate.study.processes import Standing, Task, run_tasks
from foveate.study.results import StudyError


def task(name, run=chores.write, arguments=(), after=(), seconds=10) -> Task:
    return Task(name, "cell", after, seconds, run, tuple(str(each) for each in arguments))


def until(file: Path) -> None:
    while not (file.is_file() and file.read_text()):
        time.sleep(0.01)


def test_each_task_is_a_process_of_one_thread_begun_when_what_it_needs_is_done(tmp_path: Path) -> None:
    names = {"first": (), "second": ("first",), "third": ("second",), "other": ()}
    tasks = [task(name, arguments=[tmp_path / name], after=after) for name, after in names.items()]
    seen: list[Standing] = []
    run_tasks(tasks, 2, seen.append)
    told = [(tmp_path / name).read_text().split() for name in names]
    assert {threads for threads, _ in told} == {"1"}
    assert len({process for _, process in told} | {str(os.getpid())}) == 5
    for standing in seen:
        done = {each.name for each in standing.done}
        assert all(done.issuperset(each.after) for each in standing.running)
        assert len(standing.running) <= 2
        assert len(standing.waiting) + len(standing.running) + len(standing.done) == 4
    assert [each.name for each in seen[-1].done if each.name != "other"] == ["first", "second", "third"]


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    run_tasks([], 1)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "TQDM_DISABLE" not in os.environ


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (chores.refuse, "bad: the file is spoilt: delete it"),
        (chores.stumble, "bad: KeyError: 'nothing'"),
        (chores.die, "bad: was killed by SIGKILL.*fewer workers"),
    ],
)
def test_what_fails_is_named_and_what_is_under_way_is_finished(tmp_path: Path, run, told: str) -> None:
    tasks = [
        task("good", arguments=[tmp_path / "good"]),
        task("bad", run),
        task("later", arguments=[tmp_path / "later"], after=("bad",)),
    ]
    with pytest.raises(StudyError, match=rf"{told}.*run the study again"):
        run_tasks(tasks, 2)
    assert (tmp_path / "good").is_file()
    assert not (tmp_path / "later").exists()


def test_a_task_after_one_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="later comes after first"):
        run_tasks([task("later", after=("first",))], 1)


def test_an_interrupt_ends_what_is_under_way_and_lets_it_tidy_up(tmp_path: Path) -> None:
    begun, tidied = tmp_path / "begun", tmp_path / "tidied"

    def interrupt(standing: Standing) -> None:
        if begun.is_file() and begun.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks([task("slow", chores.wait, [begun, tidied])], 1, interrupt)
    assert tidied.is_file()


def test_nothing_outlives_a_study_that_is_killed(tmp_path: Path) -> None:
    begun, tidied = tmp_path / "begun", tmp_path / "tidied"
    script = tmp_path / "study.py"
    script.write_text(
        "from tests.study import chores\nfrom foveate.study.processes import Task, run_tasks\n"
        "if __name__ == '__main__':\n"
        f"    run_tasks([Task('slow', 'cell', (), 1, chores.wait, ({str(begun)!r}, {str(tidied)!r}))], 1)\n"
    )
    source = os.pathsep.join(["src", ".", os.environ.get("PYTHONPATH", "")])
    study = subprocess.Popen([sys.executable, script], env={**os.environ, "PYTHONPATH": source})
    until(begun)
    study.send_signal(signal.SIGKILL)
    study.wait()
    until(tidied)


def standing(waiting=(), running=None, done=None, workers=2) -> Standing:
    return Standing(list(waiting), running or {}, done or {}, workers)


def test_the_time_left_is_what_was_expected_corrected_by_how_wrong_that_was() -> None:
    a, b, c = task("a", seconds=100), task("b", seconds=100), task("c", seconds=100)
    assert standing([a, b, c]).seconds_left == 150
    assert standing([c], {b: 0.0}, {a: 200.0}).seconds_left == 200  # b and c side by side, each twice as long
    assert standing([], {b: 40.0, c: 100.0}, {a: 100.0}).seconds_left == 60  # not shorter than the longest
    assert standing([], {b: 500.0}).seconds_left == 0
    assert standing().seconds_left == 0
