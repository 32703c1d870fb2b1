"""Recipes: shipped ones hold, overrides reach every setting, mistakes are named."""

from pathlib import Path

import pytest

from foveate.images import PixelBudget
from foveate.protocols import Direct, GroundThenAnswer, LocateThenAnswer
from foveate.recipes import RecipeError, dump_recipe, load_recipe, recipe_names

OWN = PixelBudget(3136, 1_003_520)


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_survives_being_written_and_read(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_hart_is_the_closed_loop_with_the_papers_k() -> None:
    recipe = load_recipe("hart")
    assert recipe.objective.k == 0.6
    assert recipe.rewards == {"accuracy": 1.0}
    protocol = recipe.build_protocol(OWN)
    assert isinstance(protocol, LocateThenAnswer)
    assert protocol.withhold_full_image
    assert protocol.view_budget == protocol.crop_budget == OWN


def test_mgpo_is_the_two_turn_template_without_standard_deviation() -> None:
    recipe = load_recipe("mgpo")
    assert recipe.objective.scale_rewards == "none"
    assert recipe.build_protocol(OWN) == GroundThenAnswer(2, OWN, OWN)


def test_grpo_answers_directly_without_preference() -> None:
    recipe = load_recipe("grpo")
    assert recipe.objective.k == 0
    assert isinstance(recipe.build_protocol(OWN), Direct)


@pytest.mark.parametrize("name", recipe_names())
def test_every_assumption_names_a_setting_that_there_is(name: str) -> None:
    settings = load_recipe(name).model_dump()
    for setting in load_recipe(name).assumptions:
        value = settings
        for part in setting.split("."):
            value = value[part]


def test_overrides_reach_settings_and_keep_their_neighbours() -> None:
    recipe = load_recipe("hart", ["objective.k=0.3", "optimisation.learning_rate=5e-7", "images.max_pixels=501760"])
    assert recipe.objective.k == 0.3
    assert recipe.objective.beta == 0.04
    assert recipe.optimisation.learning_rate == 5e-7
    protocol = recipe.build_protocol(OWN)
    assert isinstance(protocol, LocateThenAnswer)
    assert protocol.view_budget == PixelBudget(3136, 501_760)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("objective.kk=1", "objective.kk"),
        ("objective.k=lots", "objective.k"),
        ("objective.k=1.5", "objective.k"),
        ("rollout.group_size=0", "rollout.group_size"),
        ("protocol.name=guess", "protocol"),
        ("protocol.max_boxes=0", "protocol.max_boxes"),
        ("rewards.beauty=1", "beauty"),
        ("optimisation.questions_per_update=5", "questions_per_update"),
        ("objective.k", "objective.k=0.3"),
        ("objective=3", "objective"),
    ],
)
def test_a_mistake_is_named(override: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named.replace(".", r"\.")):
        load_recipe("hart", [override])


def test_an_unknown_recipe_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="hart"):
        load_recipe("heart")
    with pytest.raises(RecipeError, match="no such recipe file"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "odd.yaml").write_text("- a\n- b\n")
    with pytest.raises(RecipeError, match="expected settings"):
        load_recipe(tmp_path / "odd.yaml")


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: hart\nname: mine\nobjective: {k: 0.1}\n")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert (recipe.name, recipe.objective.k, recipe.objective.beta) == ("mine", 0.1, 0.04)
