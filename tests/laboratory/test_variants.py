"""The bases of a study: checkpoints like any other, the same on every run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foveate.context import Context
from foveate.families import EMBEDDED, VLM, load
from foveate.images import full_view
from foveate.laboratory.architecture import BUDGET, MERGED, STUDY_WORDS, vocabulary
from foveate.laboratory.variants import COUNTED, VARIANTS, Variant, build_variant, scenes
from foveate.questions.scenes import scene

SMALL = Variant(scenes(), look=2, speak=2)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("variant")
    build_variant(SMALL, EMBEDDED, folder)
    return folder


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def next_word(vlm: VLM, asked: str) -> torch.Tensor:
    image = scene(scenes(), 1, 0).image
    assert callable(image)
    encoded = vlm.family.encode(Context.user(full_view(image(), BUDGET, MERGED), asked))
    ids = torch.tensor([encoded.token_ids])
    with torch.no_grad():
        return vlm.model(input_ids=ids, position_ids=encoded.positions_AL[:, None], **encoded.images).logits[0, -1]


def test_the_new_words_come_after_all_others_which_keep_their_ids(built: Path) -> None:
    known, shipped = load(built).family.tokenizer, load().family.tokenizer
    for word, number in shipped.get_vocab().items():
        assert known.convert_tokens_to_ids(word) == number
    assert [known.convert_tokens_to_ids(word) for word in STUDY_WORDS] == list(range(len(shipped), len(known)))
    assert len(known) == len(vocabulary(STUDY_WORDS)) == load(built).model.config.text_config.vocab_size


def test_it_has_learnt_something_and_speaks(built: Path) -> None:
    vlm, shipped = load(built), load()
    assert next_word(vlm, "zoom red").shape == (len(vocabulary(STUDY_WORDS)),)
    old = next_word(shipped, "locate red")
    assert not torch.allclose(next_word(vlm, "locate red")[: len(old)], old)


def test_the_same_variant_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    told = []
    build_variant(SMALL, EMBEDDED, tmp_path, on_step=lambda *step: told.append(step[:3]))
    assert told == [("look", 1, 2), ("look", 2, 2), ("speak", 1, 2), ("speak", 2, 2)]
    assert weights(tmp_path) == weights(built)


def test_a_variant_of_a_variant_and_one_that_counts(built: Path, tmp_path: Path) -> None:
    for name, variant in {
        "prior": replace(SMALL, scenes=scenes(0.6), look=0, speak=1),
        "count": Variant(COUNTED, look=0, speak=1, speaks="counting"),
    }.items():
        build_variant(variant, built, tmp_path / name)
        assert load(tmp_path / name).model.config.text_config.vocab_size == len(vocabulary(STUDY_WORDS))
        assert weights(tmp_path / name) != weights(built)


def test_every_variant_starts_from_one_that_is_made_before_it() -> None:
    for name in VARIANTS:
        passed = [name]
        while (start := VARIANTS[passed[-1]].start) != EMBEDDED:
            assert start not in passed
            passed.append(start)
