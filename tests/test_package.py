"""What the package as a whole promises."""

import importlib.metadata
import subprocess
import sys

import foveate


def test_import_is_light():
    """Neither `import foveate` nor reading questions imports torch."""
    code = (
        "import sys, foveate; foveate.load_questions; print(*{'torch', 'transformers', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_evaluation_is_light():
    """Nor does anything that reads and draws evaluations, which is JSON: torch and transformers take four seconds."""
    code = """if True:
        import sys, types, foveate
        generators = types.ModuleType("foveate.generators")  # without its names: one of them answers in this process
        generators.__path__ = [f"{foveate.__path__[0]}/generators"]
        sys.modules["foveate.generators"] = generators
        import foveate.evaluation
        print(*{"torch", "transformers"} & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_version():
    assert foveate.__version__ == importlib.metadata.version("foveate")
