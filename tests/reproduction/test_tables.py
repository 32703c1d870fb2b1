"""The papers' tables as data: they hold together, their figures are the papers', and a dry run says it all."""

import shlex

import pytest
import typer.main

from foveate.cli import app
from foveate.evaluation.joint import JointTable, overall
from foveate.recipes import RecipeError, load_recipe
from foveate.reproduction.plan import plan_of
from foveate.reproduction.schema import Column, ReproductionError, Table, load_table, sources, table_names
from foveate.reproduction.show import described, measured

COUNTS = ("wrong box, right answer", "right box, right answer", "wrong box, wrong answer", "right box, wrong answer")


@pytest.fixture(params=table_names())
def table(request: pytest.FixtureRequest) -> Table:
    return load_table(request.param)


def test_a_dry_run_names_data_methods_commands_and_figures(table: Table, tmp_path) -> None:
    plan = plan_of(table, tmp_path)
    text = described(plan)
    for name in plan.data:
        assert sources().data[name].what in text
    for row in plan.rows:
        assert row.row.method in text
        assert all(f"{column}: {value:g}" in text for column, value in row.row.published.items())
        assert all(command in text for run in row.runs for command in run.commands())
        assert bool(row.left_out) == bool(row.row.not_run)
    for column in table.columns:
        assert f"  {column.name}: {(column.not_measured and 'not measured') or column.metric}" in text
    assert all(assumption in text for assumption in table.assumptions)


def test_every_command_is_one_that_there_is(table: Table, tmp_path) -> None:
    plan = plan_of(table, tmp_path)
    commands = [command for run in plan.runs for command in run.commands()] + [m.command() for m in plan.measurements]
    group = typer.main.get_command(app)
    for line in commands:
        program, name, *arguments = shlex.split(line)
        assert program == "foveate"
        parsed = group.commands[name].make_context(name, arguments).params
        if name != "select-resolution":
            load_recipe(parsed["recipe"], parsed["settings"] or [])


def test_every_row_has_a_figure_to_compare_with_or_a_column_that_is_measured(table: Table) -> None:
    for row in table.rows:
        assert row.published or any(column.during for column in table.columns)


def test_harts_first_table_follows_from_its_counts() -> None:
    for row in load_table("hart/table-1").rows:
        counts = JointTable(*(int(row.published[name]) for name in COUNTS))
        assert counts.attempts == sources().data["visual-cot"].questions
        assert counts.wrong_place_among_right_answers is not None
        share = round(100 * counts.wrong_place_among_right_answers, 1)
        assert share == row.published["wrong box among right answers"]


def test_harts_overall_follows_from_its_sub_tasks() -> None:
    table = load_table("hart/table-2")
    whole, *parts = table.columns
    (hart,) = (row for row in table.rows if row.method == "HART")
    assert sum(part.questions or 0 for part in parts) == whole.questions == 1919
    figure = overall({part.name: (hart.published[part.name], part.questions or 0) for part in parts})
    assert round(figure, 1) == hart.published["overall"] == 62.4


@pytest.mark.parametrize(
    ("first", "second", "methods"),
    [("hart/table-2", "hart/grounding", {"GRPO": "GRPO", "MGPO": "MGPO", "HART": "AP-GRPO"})],
)
def test_tables_share_what_they_train(tmp_path, first: str, second: str, methods: dict[str, str]) -> None:
    one, other = (plan_of(load_table(name), tmp_path) for name in (first, second))
    for here, there in methods.items():
        folders = [
            [run.folder for row in plan.rows if row.row.method == method for run in row.runs]
            for plan, method in ((one, here), (other, there))
        ]
        assert folders[0] == folders[1] != []


def test_a_stage_on_the_way_is_evaluated_without_training_twice(tmp_path) -> None:
    plan = plan_of(load_table("hart/ablation"), tmp_path)
    assert len(plan.rows) == 7
    assert len(plan.runs) == 4
    models = [one.model for row in plan.rows[:2] for one in row.measurements.values()]
    assert models == [f"{plan.runs[0].folder}/1-rl"] * 2 + [str(plan.runs[0].folder)] * 2


def test_a_later_training_starts_from_the_one_before(tmp_path) -> None:
    plan = plan_of(load_table("lfpc/main"), tmp_path)
    first, second = plan.runs
    assert second.model == str(first.folder)
    assert first.selected is not None
    assert str(first.selected) in first.commands()[1]


def test_cost_is_that_of_the_papers_settings(tmp_path) -> None:
    by_recipe = {run.settings.recipe: run.estimate() for run in plan_of(load_table("mgpo/main"), tmp_path).runs}
    assert (by_recipe["mgpo"].episodes, by_recipe["mgpo"].updates) == (43 * 512 * 8, 43 * 4)
    assert (by_recipe["sft"].episodes, by_recipe["sft"].updates) == (21_690, 339)
    (hart,) = plan_of(load_table("hart/others"), tmp_path).runs
    assert hart.estimate().episodes == 625 * 16 * 8 + 11_690
    assert hart.estimate().updates == 625 + 183


@pytest.mark.parametrize(("name", "probed"), [("mgpo/crops", 3), ("lfpc/dependence", 6), ("mgpo/main", 0)])
def test_a_dry_run_says_what_is_asked_again(tmp_path, name: str, probed: int) -> None:
    plan = plan_of(load_table(name), tmp_path)
    text = described(plan)
    assert sum("--probes" in one.command() for one in plan.measurements) == text.count("--probes") == probed
    assert (f"{probed} of these are probed" in text) == bool(probed)


def test_scores_without_probes_are_not_taken_for_probed_ones(tmp_path) -> None:
    crops = load_table("mgpo/crops")
    plain = crops.model_copy(update={"columns": [Column(name="V*", data="vstar")]})
    files = [[one.file for one in plan_of(table, tmp_path).measurements] for table in (crops, plain)]
    assert not set(files[0]) & set(files[1])


def test_models_and_data_are_given_by_name(tmp_path) -> None:
    table = load_table("mgpo/others")
    plan = plan_of(table, tmp_path, models={"": "mine"}, data={"vstar": "v.jsonl"})
    assert {run.model for run in plan.runs} == {"mine"}
    assert [row.left_out for row in plan.rows[:2]] == ["give its model: --model qwen2.5-vl-3b=PATH"] * 2
    assert "vstar" not in plan.missing
    assert "mme-realworld" in plan.missing
    both = plan_of(table, tmp_path, models={"": "mine", "qwen2.5-vl-3b": "small"})
    assert {run.model for run in both.runs} == {"mine", "small"}


def test_what_is_not_known_is_named(tmp_path) -> None:
    table = load_table("hart/grounding")
    with pytest.raises(ReproductionError, match="hart/table-2"):
        load_table("hart/table-9")
    for wrong, named in (
        ({"models": {"gpt": "x"}}, "no model gpt"),
        ({"data": {"mmme": "x"}}, "no data set mmme"),
        ({"methods": ["HARP"]}, "no row HARP"),
        ({"overrides": ["stages=sft"]}, "after the stage rl"),
    ):
        with pytest.raises(ReproductionError, match=named):
            plan_of(table, tmp_path, **wrong)
    with pytest.raises(RecipeError, match=r"objective\.kk"):
        plan_of(table, tmp_path, overrides=["objective.kk=1"])


def test_figures_are_read_from_a_score_file() -> None:
    scores = {
        "summary": {"accuracy": 0.4, "iog30": None},
        "by_category": {
            "Perception/OCR": {"accuracy": 1.0, "iog30": None, "questions": 1},
            "Perception/Monitoring": {"accuracy": 0.5, "iog30": None, "questions": 2},
            "Reasoning/Monitoring": {"accuracy": 0.0, "iog30": None, "questions": 2},
        },
        "answers_and_places": {"wrong_box_right_answer": 3, "wrong_place_among_right_answers": 0.75},
        "seconds_per_question": 2.5,
        "probes_of_all": {
            "unchanged": {"accuracy": 0.5, "change": 0.0, "questions": 4},
            "crop_alone": {"accuracy": 0.25, "change": -0.25, "questions": 4},
            "noise": {"accuracy": 0.125, "change": -0.375, "questions": 4},
            "true_crop": {"accuracy": None, "change": None, "questions": 0},
        },
    }

    def read(**column: object) -> float | None:
        return measured(scores, Column(name="c", data="vstar", **column))

    assert read() == 0.4
    assert read(category="Perception/*") == pytest.approx(2 / 3)
    assert read(category="*/Monitoring") == 0.25
    assert read(category="Counting/*") is None
    assert read(metric="macro_accuracy") == 0.5
    assert read(metric="iog30") is None
    assert read(metric="wrong_box_right_answer") == 3
    assert read(metric="wrong_place_among_right_answers") == 0.75
    assert read(metric="seconds_per_question") == 2.5
    assert read(metric="crop_alone") == 0.25
    assert read(metric="noise_drop") == 0.375
    assert read(metric="true_crop_gain") is None
    with pytest.raises(ValueError, match="not of a category"):
        read(metric="noise_drop", category="Perception/*")
