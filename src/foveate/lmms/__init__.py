"""foveate as a model of lmms-eval: `lmms_eval --model foveate --model_args pretrained=...`, on any of its image tasks.

lmms-eval is needed by `foveate.lmms.model` alone, which it imports once the model is asked for.
"""

from typing import Any


def manifest() -> Any:
    """What lmms-eval's entry points `lmms_eval.models` give: the model's name and where its class is."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="foveate", chat_class_path="foveate.lmms.model.Foveate")
