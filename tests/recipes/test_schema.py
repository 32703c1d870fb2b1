"""Recipes: shipped ones hold, overrides reach every setting, mistakes are named."""

import re
from pathlib import Path

import pytest

from foveate.images import PixelBudget
from foveate.protocols import (
    Direct,
    GroundAndAnswer,
    GroundThenAnswer,
    LocateThenAnswer,
    PointThenCount,
    ZoomTool,
)
from foveate.recipes import RecipeError, dump_recipe, load_recipe, recipe_names

OWN = PixelBudget(3136, 1_003_520)


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_survives_being_written_and_read(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_the_baseline_of_mgpo_differs_in_the_protocol_alone() -> None:
    mgpo, baseline = load_recipe("mgpo"), load_recipe("mgpo-grpo")
    assert baseline.build_protocol(OWN) == GroundAndAnswer(OWN)
    settings = baseline.settings()
    changed = {name for name, value in mgpo.settings().items() if settings.get(name) != value}
    assert changed == {"protocol.name", "protocol.turns"}


def test_another_protocol_brings_its_own_settings() -> None:
    chosen = load_recipe("hart", ["protocol.name=multi_turn", "protocol.turns=3"])
    assert chosen.build_protocol(OWN) == GroundThenAnswer(3, OWN, OWN)
    assert not [name for name in chosen.assumptions if name.startswith("protocol.")], "they were about hart's"
    assert load_recipe("hart", ["protocol.name=zoom"]).build_protocol(OWN) == ZoomTool(3, OWN, OWN)
    assert load_recipe("hart", ["protocol.name=locate_answer"]).protocol == load_recipe("hart").protocol


def test_locate_is_short_for_locate_answer_wherever_a_protocol_is_named(tmp_path: Path) -> None:
    for settings in (["protocol.withhold_full_image=false"], ["protocol.withhold_full_image=false", "stages=rl,sft"]):
        long = load_recipe("hart", [*settings, "protocol.name=locate_answer"])
        short = load_recipe("hart", [*settings, "protocol.name=locate"])
        assert short == long, "the same protocol keeps its settings and its notes"
        assert short.protocol.name == "locate_answer"
    assert load_recipe("grpo", ["protocol.name=locate"]) == load_recipe("grpo", ["protocol.name=locate_answer"])
    (tmp_path / "mine.yaml").write_text("name: mine\ntitle: t\nprotocol: {name: locate, max_boxes: 2}\n")
    (tmp_path / "more.yaml").write_text("extends: mine.yaml\nname: more\nprotocol: {name: locate_answer}\n")
    for name in ("mine", "more"):
        protocol = load_recipe(tmp_path / f"{name}.yaml").protocol
        assert (protocol.name, protocol.max_boxes) == ("locate_answer", 2)


@pytest.mark.parametrize("notes", ["published", "assumptions"])
def test_a_note_about_a_setting_that_there_is_not_is_refused(tmp_path: Path, notes: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: hart\nname: mine\n{notes}: {{objective.kk: '1'}}\n")
    with pytest.raises(RecipeError, match=rf"{notes} names objective\.kk"):
        load_recipe(tmp_path / "mine.yaml")


def test_counting_has_mgpos_objective_and_only_its_twin_needs_true_points() -> None:
    plain, pointing = load_recipe("counting"), load_recipe("counting-points")
    assert plain.objective == pointing.objective == load_recipe("mgpo").objective
    assert plain.build_protocol(OWN) == pointing.build_protocol(OWN) == PointThenCount(OWN)
    assert plain.rewards == {"accuracy": 1.0}
    assert pointing.rewards == {"accuracy": 1.0, "points": 1.0}
    assert [name for name in recipe_names() if load_recipe(name).needs_points] == ["counting-points"]
    assert not pointing.needs_regions


def test_a_reward_of_weight_zero_asks_for_no_annotation() -> None:
    plain = load_recipe("lfpc-2", ["rewards.conditional_iou=0", "rewards.l1=0", "rewards.format=0"])
    assert not plain.needs_regions
    assert plain.reward_names == ["accuracy", "format", "tool"], "what needs no annotation is logged all the same"
    assert not load_recipe("counting-points", ["rewards.points=0"]).needs_points
    one = load_recipe("lfpc-2", ["rewards.l1=0"])
    assert one.needs_regions
    assert "l1" in one.reward_names, "true boxes are there, and its value costs nothing"


@pytest.mark.parametrize("name", ["hart", "demo", "grpo", "mgpo", "counting"])
def test_recipes_of_one_stage_stay_so(name: str) -> None:
    assert load_recipe(name).stages == ["rl"]


def test_stages_are_taken_in_either_order_and_as_words() -> None:
    assert load_recipe("hart", ["stages=[sft, rl]"]).stages == ["sft", "rl"]
    assert load_recipe("hart", ["stages=rl, sft"]).stages == ["rl", "sft"]
    assert load_recipe("hart", ["stages=sft"]).stages == ["sft"]
    assert load_recipe("hart-full").stages == ["rl", "sft"]


def test_sft_keeps_the_full_image_whatever_the_rl_stage_does() -> None:
    crops = load_recipe("hart-full", ["protocol.max_boxes=2"]).as_tuned().build_protocol(OWN)
    assert crops == LocateThenAnswer(False, 2, "full_image", OWN, OWN)
    assert load_recipe("mgpo-sft").as_tuned().build_protocol(OWN) == GroundThenAnswer(2, OWN, OWN)
    for name in ("sft", "grpo-sft"):
        assert load_recipe(name).as_tuned().build_protocol(OWN) == Direct(OWN)
    assert load_recipe("hart-full", ["sft.context=full_image"]).as_tuned().build_protocol(OWN) == Direct(OWN)


def test_overrides_reach_settings_and_keep_their_neighbours() -> None:
    recipe = load_recipe("hart", ["objective.k=0.3", "optimisation.learning_rate=5e-7", "images.max_pixels=501760"])
    assert recipe.objective.k == 0.3
    assert recipe.objective.beta == 0.04
    assert recipe.optimisation.learning_rate == 5e-7
    protocol = recipe.build_protocol(OWN)
    assert isinstance(protocol, LocateThenAnswer)
    assert protocol.view_budget == PixelBudget(3136, 501_760)


def test_a_budget_of_a_view_that_is_never_shown_is_refused() -> None:
    """It would be without effect, and somebody would take what comes out for that of a sharper view."""
    budget = "images.answer_max_pixels=802816"
    for name in ("hart", "mgpo", "grpo", "lfpc-1", "counting"):
        with pytest.raises(RecipeError, match=r"images\.answer_max_pixels .*set protocol\.name=locate_answer"):
            load_recipe(name, [budget])
    for shown in ("protocol.withhold_full_image=false", "protocol.without_region=full_image"):
        assert load_recipe("hart", [budget, shown]).images.answer_max_pixels == 802_816
    kept = load_recipe("hart-full", [budget, "protocol.withhold_full_image=false", "sft.context=full_image"])
    assert kept.as_tuned().build_protocol(OWN) == Direct(OWN), "after the stage `sft` there are no crops to be beside"


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
        ("stages=[]", "stages"),
        ("stages=[rl, rl]", "a stage comes twice"),
        ("stages=[rl, dpo]", "stages.1"),
        ("split.sft_share=1", "split.sft_share"),
        ("sft.context=none", "sft.context"),
        ("objective=3", "objective"),
        ("objective.k=[", "objective.k=["),
        ("title=a: b: c", "in quotes"),
        ("objective.beta=.inf", "objective.beta"),
        ("rewards.accuracy=.nan", "rewards.accuracy"),
    ],
)
def test_a_mistake_is_named(override: str, named: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(named)):
        load_recipe("hart", [override])


def test_crops_for_sft_need_a_protocol_that_locates() -> None:
    with pytest.raises(RecipeError, match=r"set sft\.context=full_image"):
        load_recipe("mgpo-sft", ["protocol.name=multi_turn_free"])
    for name in ("grpo", "lfpc-1"):
        with pytest.raises(RecipeError, match=r"set sft\.context=full_image"):
            load_recipe(name, ["stages=rl,sft"])
        load_recipe(name, ["stages=rl,sft", "sft.context=full_image"])


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


def test_a_recipe_is_extended_from_where_the_extending_file_lies(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/base.yaml").write_text("extends: hart\nname: base\nobjective: {k: 0.1}\n")
    (tmp_path / "mine/more.yaml").write_text("extends: base.yaml\nname: more\n")
    monkeypatch.chdir(tmp_path)
    assert load_recipe("mine/more.yaml").objective.k == 0.1


def test_a_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("extends: other.yaml\nname: one\n")
    (tmp_path / "other.yaml").write_text(f"extends: ../{tmp_path.name}/one.yaml\nname: other\n")
    with pytest.raises(RecipeError, match="extends itself"):
        load_recipe(tmp_path / "one.yaml")


@pytest.mark.parametrize("name", recipe_names())
def test_settings_reach_a_loaded_recipe_as_they_reach_its_file(name: str) -> None:
    settings = ["objective.k=0.2", "protocol.name=zoom", "sft.context=full_image"]
    assert load_recipe(name).with_settings(settings) == load_recipe(name, settings)
