"""Measurements of what packing saves, on random weights of the real architecture. See docs/performance.md."""
