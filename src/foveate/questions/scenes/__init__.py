"""Procedural scenes: pictures whose answer is legible in the original and not on the small view.

A scene is a light ground with grey clutter and a few cards that differ in colour and shape, each with small writing
on it. Everything follows from (config, seed, index): nothing is stored, and scene 7 is the same whether scene 6 was
asked for or not.
"""

from foveate.questions.scenes.config import Kind, NamedBy, SceneConfig, Writing
from foveate.questions.scenes.export import export
from foveate.questions.scenes.layout import Card, Layout, layout
from foveate.questions.scenes.scene import SceneImage, Scenes, scene

__all__ = [
    "Card",
    "Kind",
    "Layout",
    "NamedBy",
    "SceneConfig",
    "SceneImage",
    "Scenes",
    "Writing",
    "export",
    "layout",
    "scene",
]
