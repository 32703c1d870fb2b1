"""Readers of published benchmarks, in the layouts in which they are published."""

from foveate.questions.benchmarks.layouts import BoxFormat
from foveate.questions.benchmarks.reading import benchmark_named, find_data, load_benchmark, load_named
from foveate.questions.benchmarks.registry import BENCHMARKS, Benchmark

__all__ = ["BENCHMARKS", "Benchmark", "BoxFormat", "benchmark_named", "find_data", "load_benchmark", "load_named"]
