import random, sys, time, torch
from torch import nn
from pathlib import Path
from dataclasses import dataclass
from statistics import mean
from collections import deque
from transformers import Qwen2_5_VLForConditionalGeneration
from foveate.families import tiny
from foveate.images import PixelBudget
from foveate.laboratory.architecture import STUDY_WORDS, vocabulary, save_checkpoint, MERGED
from foveate.laboratory.dense import DenseHead, dense_targets, images_of
from foveate.laboratory.examples import Optics, batches
from foveate.laboratory.forward import Optimiser, encode_images, logits_and_labels
from foveate.laboratory.habits import pointing_habits, reading_habits
from foveate.laboratory.sheets import sheet
from foveate.questions.scenes import SceneConfig


def budget(side):
    return PixelBudget(4 * MERGED**2, int(side * side * 1.04))


SMALL, MIDDLE, LARGE = 56, 84, 112


def scenes(prior=0.0, px=39):
    return SceneConfig(size=512, writing_px=px, prior=prior)


def build(out, start=None, steps=700, prior=0.0, vision=4e-3, text=6e-3, n=12, sheets=8, seed=0, px=39, digits=200):
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(start or tiny.path()).float()
    if model.config.text_config.vocab_size < len(vocabulary(STUDY_WORDS)):
        model.resize_token_embeddings(len(vocabulary(STUDY_WORDS)))
    model.train()
    head = DenseHead(model.lm_head.in_features)
    optics = Optics(
        (scenes(prior, px),),
        (budget(LARGE), budget(LARGE), budget(LARGE), budget(MIDDLE), budget(SMALL)),
        budget(SMALL),
    )
    for phase, count, lr_t, k in (("look", digits, 0.0, 16), ("speak", steps, text, n)):
        if not count:
            continue
        rng = random.Random(seed)
        opt = Optimiser(model, count, vision=vision if lr_t else 2 * vision, text=lr_t, extra=head)
        t0 = time.time()
        recent = deque(maxlen=40)
        for step, examples in enumerate(batches(1_000_000 * (seed + 50) + (17 if lr_t else 0), count, k, optics)):
            images, targets = images_of(examples), dense_targets(examples)
            extra = [sheet(rng, (7, 30)) for _ in range(sheets)]
            features = encode_images(model, images + [im for im, _ in extra])
            losses = head.losses(torch.cat(features), torch.cat([targets, *(t for _, t in extra)]))
            if lr_t:
                p, r = pointing_habits(examples, rng), reading_habits(examples, rng)
                logits, labels = logits_and_labels(model, images, features, p + r)
                ce = nn.functional.cross_entropy(logits, labels, reduction="none")
                cut = sum(len(l.reply) for l in p)
                losses["point"] = ce[:cut].mean()
                losses["read"] = ce[cut:].mean()
            opt.step(torch.stack(list(losses.values())).sum())
            recent.append({k: v.item() for k, v in losses.items()})
            if step % 50 == 49 or step + 1 == count:
                print(
                    phase,
                    step + 1,
                    f"{time.time() - t0:.0f}s",
                    " ".join(f"{k} {mean(x[k] for x in recent):.3f}" for k in recent[0]),
                    flush=True,
                )
    save_checkpoint(model, out, STUDY_WORDS)


if __name__ == "__main__":
    import argparse

    a = argparse.ArgumentParser()
    a.add_argument("out")
    a.add_argument("--start")
    a.add_argument("--steps", type=int, default=700)
    a.add_argument("--prior", type=float, default=0.0)
    a.add_argument("--px", type=int, default=39)
    a.add_argument("--digits", type=int, default=200)
    a.add_argument("--vision", type=float, default=4e-3)
    a.add_argument("--text", type=float, default=6e-3)
    o = a.parse_args()
    torch.set_num_threads(1)
    build(o.out, o.start, o.steps, o.prior, digits=o.digits, px=o.px, vision=o.vision, text=o.text)
