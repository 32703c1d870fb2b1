"""Miniature experiments: how the embedded base model is made."""
