"""`--model_args` and the recipe that they mean."""

import pytest

from foveate.lmms.options import Options, OptionsError
from foveate.recipes import RecipeError
from foveate.runs import recipe_for


def test_without_arguments_the_model_is_asked_as_by_eval():
    assert Options.of({}).resolved() == recipe_for("tiny")


def test_arguments_are_settings_of_the_recipe():
    arguments = {
        "pretrained": "tiny",
        "recipe": "demo",
        "protocol": "zoom",
        "min_pixels": 3136,
        "max_pixels": 12544.0,  # as lmms-eval reads 1.2544e4
        "max_new_tokens": 40,
        "protocol.max_calls": 2,
        "images.crop_max_pixels": 6272,
        "batch_size": "16",  # as lmms-eval passes --batch_size
    }
    options = Options.of(arguments)
    recipe = options.resolved()
    assert (recipe.protocol.name, recipe.protocol.max_calls) == ("zoom", 2)
    assert (recipe.images.min_pixels, recipe.images.max_pixels, recipe.images.crop_max_pixels) == (3136, 12544, 6272)
    assert recipe.rollout.max_new_tokens == 40
    assert options.batch_size == 16


def test_truth_values_reach_the_recipe():
    recipe = Options.of({"protocol": "locate_answer", "protocol.withhold_full_image": False}).resolved()
    assert recipe.protocol.withhold_full_image is False


def test_the_short_name_of_a_protocol_is_taken():
    assert Options.of({"protocol": "locate"}).resolved() == Options.of({"protocol": "locate_answer"}).resolved()


@pytest.mark.parametrize("name", ["max_pixel", "objective.k", "settings", "max_batch_size"])
def test_an_unknown_argument_is_refused_with_the_list(name):
    with pytest.raises(OptionsError, match=rf"no argument {name}; there are pretrained, recipe, .*protocol\.max_boxes"):
        Options.of({"pretrained": "tiny", name: 1})


@pytest.mark.parametrize(("name", "value"), [("batch_size", "auto"), ("max_pixels", 0), ("dtype", "int8")])
def test_a_value_that_does_not_fit_is_named(name, value):
    with pytest.raises(OptionsError, match=f"{name}: "):
        Options.of({name: value})


@pytest.mark.parametrize("protocol", ["ground_answer", "count"])
def test_a_protocol_whose_reply_holds_coordinates_is_refused(protocol):
    with pytest.raises(OptionsError, match=r"give protocol=direct or locate_answer or multi_turn or"):
        Options.of({"protocol": protocol}).resolved()


def test_a_setting_that_the_protocol_lacks_is_refused_by_the_recipe():
    with pytest.raises(RecipeError, match=r"protocol\.turns"):
        Options.of({"protocol": "direct", "protocol.turns": 3}).resolved()
