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


def test_version():
    assert foveate.__version__ == importlib.metadata.version("foveate")
