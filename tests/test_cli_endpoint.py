"""The commands that ask a model at an endpoint: what is said, what is sent, and where it is written down."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.generators.chat_server import ChatServer, Reply, completion, serving
from typer.testing import CliRunner

from foveate.cli import app
from foveate.runs import recipe_for


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three open questions; what is written without a name goes to the test's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    Image.new("RGB", (448, 448), "red").save(tmp_path / "a.png")
    rows = [{"id": str(n), "image": "a.png", "question": f"Item {n}?", "answer": "grey"} for n in range(3)]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path("my.jsonl")


def says(text: str) -> ChatServer:
    return ChatServer(answer=lambda body, attempt: completion(text))


def test_eval_without_out_is_written_down_and_the_json_has_all_of_it(data: Path) -> None:
    prices = ["--endpoint-set", "prompt_price=2", "--endpoint-set", "completion_price=8"]
    arguments = [
        "eval",
        "--model",
        "org/Qwen3-VL-8B",
        "--protocol",
        "locate",
        "--data",
        data,
        "--json",
        "deep/all.json",
    ]
    with serving(says('[{"bbox_2d": [0, 0, 500, 500]}]')) as server:
        said = run(*arguments, "--endpoint", server.url, *prices)
        assert "asked by the recipe hart, protocol locate_answer" in said
        assert f"org/Qwen3-VL-8B at {server.url}, spoken to as qwen3-vl (a guess: --endpoint-set family=...)" in said
        folder = Path("runs/eval/org-Qwen3-VL-8B-locate_answer-my.jsonl")
        assert f"written down in {folder}" in said
        asked = len(server.log)
        assert asked == 6, "three questions of two turns"
        written = json.loads(Path("deep/all.json").read_text())
        assert written == json.loads((folder / "scores.json").read_text())
        assert written["endpoint"] == {
            "url": server.url,
            "refused_parameters": [],
            "prompt_tokens": 60,
            "completion_tokens": 18,
            "cost": pytest.approx((60 * 2 + 18 * 8) / 1e6),
        }
        assert written["identity"].startswith("org/Qwen3-VL-8B png")
        Path("deep/all.json").unlink()
        run(*arguments, "--endpoint", server.url, *prices)
        assert len(server.log) == asked, "the same command asks nothing again"
    assert json.loads(Path("deep/all.json").read_text())["endpoint"] == written["endpoint"]


def test_checkpoints_are_of_one_model(data: Path) -> None:
    said = run("probe", "--data", data, "--checkpoints", "--answerer", "tiny", status=2)
    assert "leave out --answerer" in said.replace(" │ │ ", " ")


def test_a_password_in_the_url_is_not_shown(data: Path) -> None:
    with serving(says("grey")) as server:
        url = server.url.replace("http://", "http://me:sk-word@")
        said = run(
            "eval", "--endpoint", url, "--model", "m", "--protocol", "direct", "--data", data, "--json", "f.json"
        )
    assert f"m at {server.url}, spoken to" in said
    written = [path.read_text(errors="replace") for path in Path().rglob("*.json*") if path.is_file()]
    assert len(written) > 4
    assert not any("sk-word" in text for text in [said, *written])


def test_a_family_that_was_named_is_no_guess(data: Path) -> None:
    with serving(says("grey")) as server:
        there = ["--endpoint", server.url, "--endpoint-set", "family=internvl", "--endpoint-set", "max_pixels=200704"]
        said = run("eval", "--model", "m", "--protocol", "direct", "--data", data, *there, "--out", "here")
    assert "spoken to as internvl " in said
    assert "guess" not in said
    setup = json.loads(Path("here/scores.json").read_text())["setup"]
    assert setup["family"]["budget"] == {"min_pixels": 200704, "max_pixels": 200704}


def test_probe_without_out_is_written_down_beside_the_evaluation(data: Path) -> None:
    with serving(says("grey")) as server:
        arguments = ["--endpoint", server.url, "--model", "m", "--protocol", "direct", "--data", data]
        run("eval", *arguments)
        said = run("probe", *arguments)
    assert f"m at {server.url}, spoken to as generic (a guess" in said
    assert "written down in runs/eval/m-direct-my.jsonl-probe" in said
    assert {path.name for path in Path("runs/eval").iterdir()} == {"m-direct-my.jsonl", "m-direct-my.jsonl-probe"}
    probed = Path("runs/eval/m-direct-my.jsonl-probe")
    assert (probed / "replies.jsonl").exists()
    assert json.loads((probed / "scores.json").read_text())["gain_harm"]["questions"] > 0


def test_ask_says_how_it_asks_and_writes_no_folder(data: Path) -> None:
    with serving(says("blue")) as server:
        said = run("ask", "a.png", "Which colour?", "--endpoint", server.url, "--model", "m", "--protocol", "direct")
    assert "asked by the recipe hart, protocol direct" in said
    assert "spoken to as generic (a guess" in said
    assert "blue" in said
    assert not Path("runs").exists()


def test_a_model_elsewhere_is_asked_by_no_run_of_its_name(data: Path) -> None:
    checkpoint = Path("m/checkpoints/step-000001")
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text("{}")
    (checkpoint.parent.parent / "recipe.yaml").write_text("extends: demo\nname: mine\n")
    assert recipe_for(str(checkpoint)).name == "mine"
    with serving(says("blue")) as server:
        said = run("ask", "a.png", "Which colour?", "--endpoint", server.url, "--model", checkpoint)
    assert "asked by the recipe hart" in said


def test_the_judge_is_asked_by_settings_of_its_own(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-judge")
    monkeypatch.setenv("MODEL_KEY", "sk-model")
    asked = ["eval", "--model", "m", "--protocol", "direct", "--data", data, "--judge", "j"]
    own = ["--judge-set", "api_key_env=JUDGE_KEY", "--judge-set", 'extra={"top_k": 1}']
    both = ChatServer(answer=lambda body, attempt: completion("yes" if body["model"] == "j" else "gray"))
    with serving(both) as model, serving(says("yes")) as judge:
        there = ["--endpoint", model.url, "--endpoint-set", "api_key_env=MODEL_KEY"]
        run(*asked, *there, "--judge-endpoint", judge.url, *own, "--out", "apart")
        assert set(model.keys) == {"Bearer sk-model"}
        assert set(judge.keys) == {"Bearer sk-judge"}
        assert [body["top_k"] for body in judge.bodies] == [1, 1, 1]
        assert not any("top_k" in body for body in model.bodies)
        assert json.loads(Path("apart/scores.json").read_text())["judged"] == 3
        model.keys.clear()
        model.bodies.clear()
        run(*asked, *there, "--judge-set", 'extra={"top_k": 1}', "--out", "alike")
        assert set(model.keys) == {"Bearer sk-model"}, "the judge is asked as the model is, but for what is set of it"
        assert {(body["model"], body.get("top_k")) for body in model.bodies} == {("m", None), ("j", 1)}
        other = ["--judge-set", 'extra={"top_k": 2}', "--out", "alike"]
        assert "was begun with another judge" in run(*asked, *there, *other, status=2)


LOCATE = '[{"bbox_2d": [0, 0, 500, 500]}]'


def both(body: dict[str, Any], attempt: int) -> Reply:
    """A locator by the name of l, and an answerer of any other."""
    return completion(LOCATE if body["model"] == "l" else "grey")


def test_one_model_locates_and_another_answers_each_at_its_own_endpoint(data: Path) -> None:
    with serving(ChatServer(answer=both)) as locator, serving(ChatServer(answer=both)) as answerer:
        asked = ["--endpoint", locator.url, "--model", "l", "--protocol", "locate"]
        asked += ["--answerer", "org/Qwen3-VL-8B", "--answerer-endpoint", answerer.url]
        asked += ["--answerer-set", "max_pixels=200704"]
        said = run("eval", *asked, "--data", data)
        assert f"located by l at {locator.url}, spoken to as generic (a guess: --endpoint-set family=...)" in said
        assert f"answered by org/Qwen3-VL-8B at {answerer.url}, spoken to as qwen3-vl" in said
        assert "(a guess: --answerer-set family=...)" in said
        folder = Path("runs/eval/l-org-Qwen3-VL-8B-locate_answer-my.jsonl")
        assert f"written down in {folder}" in said
        assert ({body["model"] for body in locator.bodies}, len(locator.log)) == ({"l"}, 3)
        assert ({body["model"] for body in answerer.bodies}, len(answerer.log)) == ({"org/Qwen3-VL-8B"}, 3)
        scores = json.loads((folder / "scores.json").read_text())
        assert (scores["model"], scores["answerer"]["model"]) == ("l", "org/Qwen3-VL-8B")
        assert scores["summary"]["accuracy"] == 1
        assert scores["setup"]["answerer"]["family"]["budget"]["max_pixels"] == 200704
        run("eval", *asked, "--data", data)
        assert len(answerer.log) == 3, "the same command asks nothing again"
        said = run("probe", *asked, "--data", data, "--json", "look.json")
        assert len(locator.log) == 6, "three questions of one turn: the probes are asked of the other"
        assert json.loads(Path("look.json").read_text())["answerer"] == "org/Qwen3-VL-8B"
        said = run("report", folder, "--out", "page.html")
        page = Path("page.html").read_text()
        assert "located by l" in page
        assert "answered by org/Qwen3-VL-8B" in page
        said = run("ask", "a.png", "Which colour?", *asked)
        assert "grey" in said
        assert "looked at 1 region(s)" in said


def test_an_answerer_at_an_endpoint_is_written_down_beside_a_locator_that_is_loaded(data: Path) -> None:
    with serving(says("grey")) as server:
        there = ["--answerer", "m", "--answerer-endpoint", server.url]
        said = run("eval", "--recipe", "demo", *there, "--data", data, "--set", "protocol.without_region=full_image")
    assert "located by tiny" in said
    assert "written down in runs/eval/tiny-m-locate_answer-my.jsonl" in said
    assert len(server.log) == 3


def test_two_endpoints_are_asked_without_torch(data: Path) -> None:
    """It takes seconds to import, and whoever asks endpoints alone may have none."""
    code = """if True:
        import sys
        from foveate.cli import app
        for command in (["eval", *sys.argv[2:]], ["probe", *sys.argv[2:]], ["ask", "a.png", "Which?", *sys.argv[4:]]):
            app(command, standalone_mode=False)
        print("imported:", *{"torch", "transformers"} & set(sys.modules))
    """
    with serving(ChatServer(answer=both)) as server:
        asked = ["--data", data, "--endpoint", server.url, "--model", "l", "--protocol", "locate"]
        asked += ["--answerer", "a", "--answerer-endpoint", server.url]
        alone = [sys.executable, "-c", code, "", *map(str, asked)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(alone, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split()[-1] == "imported:"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--endpoint-set", "concurrency=2"], "name it with --endpoint URL"),
        (
            ["--endpoint", "http://localhost:1/v1", "--endpoint-set", "jpeg_quality=200"],
            "jpeg_quality: Input",
        ),
        (["--endpoint", "http://localhost:1/v1", "--endpoint-set", "extra=top_p"], "write a JSON object"),
        (["--endpoint", "http://localhost:1/v1", "--endpoint-set", "family=qwen"], "no family 'qwen'"),
        (["--answerer-endpoint", "http://localhost:1/v1"], "name it with --answerer MODEL"),
        (["--answerer-set", "retries=1"], "name it with --answerer MODEL"),
        (["--answerer", "a", "--answerer-set", "retries=1"], "name it with --answerer-endpoint URL"),
        (
            ["--answerer", "a", "--answerer-endpoint", "http://localhost:1/v1", "--answerer-set", "retries=-1"],
            "retries: Input",
        ),
        (["--answerer", "tiny", "--protocol", "zoom"], "ZoomTool has no answer turn"),
        (["--judge", "j"], "--judge needs --judge-endpoint URL"),
        (["--judge-set", "retries=1"], "name it with --judge MODEL"),
        (["--judge-endpoint", "http://localhost:1/v1"], "name it with --judge MODEL"),
        (["--judge", "j", "--judge-endpoint", "http://localhost:1/v1", "--judge-set", "retries=-1"], "retries: Input"),
    ],
)
def test_options_that_do_not_fit_end_with_a_sentence(data: Path, options: list[str], told: str) -> None:
    said = run("eval", "--data", data, *options, status=2)
    assert told in said.replace(" │ │ ", " ")
    assert "Traceback" not in said
    assert not Path("runs").exists()
