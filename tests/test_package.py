"""What the package as a whole promises."""

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

import foveate


@pytest.mark.parametrize(
    "needed",
    [
        "import foveate; foveate.load_questions",
        "from foveate.generators import Endpoint; Endpoint(url='http://localhost:1/v1').family_of('m')",
        "from foveate.evaluation import write_comparison",
    ],
)
def test_what_needs_no_torch_imports_none(needed):
    code = f"import sys; {needed}; print(*{{'torch', 'transformers', 'pyarrow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("room", ["families", "generators"])
def test_what_is_imported_late_is_all_there(room):
    module = importlib.import_module(f"foveate.{room}")
    assert all(getattr(module, name) is not None for name in module.__all__)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def test_version():
    assert foveate.__version__ == importlib.metadata.version("foveate")
