"""Sections: the protocols and the budgets that settings stand for."""

import pytest

from foveate.images import PixelBudget
from foveate.protocols import Direct, GroundThenAnswer, GroundUntilAnswered, LocateThenAnswer
from foveate.recipes import RecipeError, load_recipe
from foveate.recipes.sections import PROTOCOL_NAMES, Images

OWN = PixelBudget(3136, 1_003_520)


@pytest.mark.parametrize("name", sorted(PROTOCOL_NAMES))
def test_every_protocol_is_built_under_the_budgets_that_are_set(name: str) -> None:
    settings = [f"protocol.name={name}", "images.max_pixels=501760", "images.crop_max_pixels=802816"]
    protocol = load_recipe("grpo", settings).build_protocol(OWN)
    assert protocol.view_budget == PixelBudget(3136, 501_760)
    assert getattr(protocol, "crop_budget", None) in (None, PixelBudget(3136, 802_816))


def test_a_least_number_of_pixels_never_exceeds_the_most() -> None:
    images = Images(min_pixels=10_000, crop_max_pixels=5_000)
    assert images.view_budget(OWN) == PixelBudget(10_000, 1_003_520)
    assert images.crop_budget(OWN) == PixelBudget(5_000, 5_000)


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


def test_the_general_form_of_mgpo_is_a_protocol_of_its_own() -> None:
    free = load_recipe("mgpo", ["protocol.name=multi_turn_free"])
    assert free.build_protocol(OWN) == GroundUntilAnswered(3, OWN, OWN)
    assert free.objective == load_recipe("mgpo").objective
    assert load_recipe("hart", ["protocol.name=multi_turn_free", "protocol.turns=5"]).build_protocol(OWN).turns == 5
    with pytest.raises(RecipeError, match=r"protocol\.turns"):
        load_recipe("mgpo", ["protocol.name=multi_turn_free", "protocol.turns=1"])


def test_grpo_answers_directly_without_preference() -> None:
    recipe = load_recipe("grpo")
    assert recipe.objective.k == 0
    assert isinstance(recipe.build_protocol(OWN), Direct)


def test_the_full_image_beside_its_crops_has_a_budget_of_its_own_only_where_one_is_set() -> None:
    kept = ["protocol.withhold_full_image=false", "images.max_pixels=501760"]
    plain = load_recipe("hart", kept).build_protocol(OWN)
    assert isinstance(plain, LocateThenAnswer)
    assert plain.answer_view_budget is None
    sharper = load_recipe("hart", [*kept, "images.answer_max_pixels=802816"]).build_protocol(OWN)
    assert isinstance(sharper, LocateThenAnswer)
    assert sharper.answer_view_budget == PixelBudget(3136, 802_816)
    assert (sharper.view_budget, sharper.crop_budget) == (plain.view_budget, plain.crop_budget)
    smallest = load_recipe("hart-full", ["images.answer_max_pixels=1000"]).as_tuned().build_protocol(OWN)
    assert isinstance(smallest, LocateThenAnswer)
    assert smallest.answer_view_budget == PixelBudget(1000, 1000)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["setup.quantize=4bit"], "setup.lora.rank"),
        (["setup.lora.targets=all", "setup.vision_tower=freeze"], "contradict"),
        (["setup.lora.rank=0"], "setup.lora.rank"),
        (["setup.lora.alpha=0"], "setup.lora.alpha"),
        (["setup.quantize=8bit", "setup.lora.rank=4"], "setup.quantize"),
        (["setup.precision=float16"], "setup.precision"),
    ],
)
def test_a_setup_that_cannot_be_is_refused_by_name(settings: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe("hart", settings)


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ([], True),
        (["setup.vision_tower=freeze"], False),
        (["setup.lora.rank=4"], False),
        (["setup.lora.targets=all"], True),
    ],
)
def test_a_setup_says_whether_the_tower_is_trained(settings: list[str], trained: bool) -> None:
    assert load_recipe("hart", settings).setup.trains_tower is trained


def test_a_setup_is_none_of_the_methods_settings_and_decides_part_of_the_trajectory() -> None:
    plain, other = load_recipe("hart"), load_recipe("hart", ["setup.lora.rank=4", "setup.gradient_checkpointing=true"])
    assert plain.settings() == other.settings()
    changed = {name for name, value in other.setup.trajectory().items() if plain.setup.trajectory()[name] != value}
    assert changed == {"setup.lora"}
