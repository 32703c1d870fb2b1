"""Features of a frozen tower are kept for as long as they hold, and never longer."""

from __future__ import annotations

import pytest
import torch
from tests.models import group, noise_view, random_vlm
from torch import Tensor

from foveate.families import VLM
from foveate.training.features import FeatureCache
from foveate.training.packing import packed_logprobs

EPISODES = [*group([4, 6]), *group([3], name="r", seed=5)]
"""About two pictures."""


def frozen(**options: object) -> tuple[VLM, FeatureCache]:
    vlm = random_vlm(gain=1.0)
    vlm.model.model.visual.requires_grad_(False)
    return vlm, FeatureCache(vlm.model, **options)


def logprobs(vlm: VLM) -> Tensor:
    return torch.cat(packed_logprobs(vlm, EPISODES))


def test_the_model_computes_what_it_computes_without() -> None:
    plain = random_vlm(gain=1.0)
    vlm, cache = frozen()
    first, again = logprobs(vlm), logprobs(vlm)
    assert (cache.misses, cache.hits) == (2, 2)
    assert torch.equal(first, again)
    torch.testing.assert_close(first, logprobs(plain), atol=1e-5, rtol=0)
    again.mean().backward()
    logprobs(plain).mean().backward()
    for name, weight in vlm.model.named_parameters():
        own = plain.model.get_parameter(name).grad
        if "visual" in name:
            assert weight.grad is None
        elif own is not None:
            torch.testing.assert_close(weight.grad, own, atol=1e-6, rtol=1e-4)


def test_an_images_features_do_not_depend_on_what_it_came_with() -> None:
    vlm, cache = frozen()
    together = cache(*pixels(vlm, 0, 1)).pooler_output
    cache.clear()
    alone = cache(*pixels(vlm, 1)).pooler_output
    assert torch.equal(together[1], alone[0])


def test_other_pixels_are_another_image() -> None:
    vlm, cache = frozen()
    one, grid = pixels(vlm, 0)
    other = one.clone()
    other[-1, -1] += 1e-3
    cache(one, grid)
    cache(other, grid)
    assert (cache.misses, cache.hits) == (2, 0)


def change_in_place(tower: torch.nn.Module) -> None:
    with torch.no_grad():
        tower.blocks[0].mlp.gate_proj.weight.add_(0.1)


def change_by_loading(tower: torch.nn.Module) -> None:
    tower.load_state_dict({name: tensor * 1.5 for name, tensor in tower.state_dict().items()})


def change_by_replacing(tower: torch.nn.Module) -> None:
    weight = tower.merger.mlp[0].weight
    tower.merger.mlp[0].weight = torch.nn.Parameter(weight * 2, requires_grad=False)


def change_by_moving(tower: torch.nn.Module) -> None:
    tower.to(torch.bfloat16)
    tower.to(torch.float32)


def change_behind_torchs_back(tower: torch.nn.Module) -> None:
    tower.blocks[0].mlp.gate_proj.weight.data[0] *= -1


def change_by_other_storage(tower: torch.nn.Module) -> None:
    tower.merger.mlp[0].weight.data = tower.merger.mlp[0].weight.data + 0.1


CHANGES = [
    change_in_place,
    change_by_loading,
    change_by_replacing,
    change_by_moving,
    change_behind_torchs_back,
    change_by_other_storage,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_towers_weights_drops_all_features(change) -> None:
    vlm, cache = frozen()
    before = cache(*pixels(vlm, 0)).pooler_output[0]
    cache(*pixels(vlm, 1))
    change(vlm.model.model.visual)
    after = cache(*pixels(vlm, 0)).pooler_output[0]
    assert not torch.equal(before, after)
    cache(*pixels(vlm, 1))
    assert (cache.misses, cache.hits) == (4, 0)


def test_a_tower_in_training_gets_none_and_its_gradients() -> None:
    vlm, cache = frozen()
    logprobs(vlm)
    vlm.model.model.visual.merger.requires_grad_(True)
    logprobs(vlm).mean().backward()
    assert (cache.misses, cache.hits) == (2, 0)
    assert vlm.model.model.visual.merger.mlp[0].weight.grad.abs().sum() > 0
    vlm.model.model.visual.requires_grad_(False)
    logprobs(vlm)
    assert (cache.misses, cache.hits) == (4, 0)


def test_the_precision_in_force_is_part_of_what_is_looked_up() -> None:
    vlm, cache = frozen()
    exact = cache(*pixels(vlm, 0)).pooler_output[0]
    with torch.autocast("cpu", torch.bfloat16):
        rough = cache(*pixels(vlm, 0)).pooler_output[0]
    assert (cache.misses, cache.hits) == (2, 0)
    assert not torch.equal(exact.float(), rough.float())
    assert torch.equal(cache(*pixels(vlm, 0)).pooler_output[0], exact)


def test_memory_is_bounded_and_what_was_used_last_stays() -> None:
    vlm, cache = frozen(limit=2 * 12 * 48 * 4)  # two views of 4 x 3 features of 48 floats
    for seed in (0, 1, 0, 2):
        cache(*pixels(vlm, seed))
    assert (cache.misses, cache.hits) == (3, 1)
    assert cache._held == 2 * 12 * 48 * 4
    cache(*pixels(vlm, 0))
    assert cache.hits == 2
    cache(*pixels(vlm, 1))
    assert cache.misses == 4


def pixels(vlm: VLM, *seeds: int) -> tuple[Tensor, Tensor]:
    images = vlm.family.collate_images([noise_view(4, 3, seed) for seed in seeds])
    return images["pixel_values"], images["image_grid_thw"]
