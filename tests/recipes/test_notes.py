"""A recipe beside its paper: what differs, what is assumed, and YAML that loads all the same."""

from pathlib import Path

import pytest

from foveate.recipes import annotated, differences, load_recipe, recipe_names

SILENT_OF_HART = """
    objective.beta rollout.group_size rollout.temperature rollout.max_new_tokens optimisation.learning_rate
    optimisation.schedule optimisation.steps optimisation.questions_per_step
""".split()


@pytest.mark.parametrize("name", recipe_names())
def test_the_annotated_lines_load_as_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    lines = [f"{line.text}  {line.comment}\n" if line.comment else line.text + "\n" for line in annotated(recipe)]
    (tmp_path / "recipe.yaml").write_text("".join(lines), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def beside(name: str, *overrides: str) -> dict[str, str]:
    lines = annotated(load_recipe(name, overrides))
    return {line.text.strip(): line.comment for line in lines if line.comment}


def test_the_papers_value_stands_beside_another() -> None:
    assert "k: 0.6" not in beside("hart")
    assert beside("hart", "objective.k=0.3")["k: 0.3"] == "# paper: 0.6"
    assert beside("hart")["max_boxes: 4"] == "# paper: one or more; assumed"
    assert beside("hart")["beta: 0.04"] == "# assumed"
    assert beside("lfpc-2", "optimisation.steps=8")["steps: 8"] == "# paper: 80; assumed"
    assert beside("hart", "protocol.name=direct")["name: direct"] == "# paper: locate_answer"


@pytest.mark.parametrize(
    "name", ["hart", "hart-full", "mgpo", "mgpo-sft", "mgpo-grpo", "lfpc-1", "lfpc-2", "counting", "demo"]
)
def test_what_the_papers_give_is_what_the_recipes_take(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.published
    words = {"protocol.max_boxes"}  # "one or more"
    assert differences(recipe).keys() <= words


@pytest.mark.parametrize("name", ["hart", "hart-full", "demo"])
def test_what_harts_paper_is_silent_about_is_listed(name: str) -> None:
    assert set(SILENT_OF_HART) <= load_recipe(name).assumptions.keys()


def test_a_recipe_takes_over_what_the_paper_says_of_the_one_it_extends() -> None:
    assert load_recipe("hart-full").published["objective.k"] == 0.6
    baseline = load_recipe("mgpo-grpo").published
    assert baseline["protocol.name"] == "ground_answer"
    assert "protocol.turns" not in baseline
    assert "objective.scale_rewards" not in baseline
