"""A benchmark's files from the Hugging Face hub, as files: they are read as any others are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from foveate.questions.benchmarks.registry import Benchmark
from foveate.questions.problems import QuestionFileError


def downloaded(benchmark: Benchmark, choose: Callable[[Benchmark, list[str]], list[str]]) -> Path:
    """The folder with a benchmark's files, downloaded where they are not in the hub's cache.

    Args:
        benchmark: which one.
        choose: of the names of the hub's files, those to download.

    Raises:
        QuestionFileError: they could not be downloaded, or cannot be read as they are on the hub.
    """
    local = f"give where they lie: --data {benchmark.name}:PATH ({benchmark.read})"
    if not benchmark.downloads:
        page = f"https://huggingface.co/datasets/{benchmark.hub}"
        raise QuestionFileError(
            f"the pictures of {benchmark.name} are in archives: unpack those of {page}, and {local}"
        )
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    folder: str | None = None
    try:
        files = HfApi().dataset_info(benchmark.hub).siblings or []
        if names := choose(benchmark, [file.rfilename for file in files]):
            folder = snapshot_download(benchmark.hub, repo_type="dataset", allow_patterns=names)
    except Exception as error:  # whatever the network makes the hub's client raise
        try:  # what was downloaded before will do
            folder = snapshot_download(benchmark.hub, repo_type="dataset", local_files_only=True)
        except LocalEntryNotFoundError:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            message = (
                f"{benchmark.hub} could not be downloaded from the hub ({reason}). Download its files, and {local}"
            )
            raise QuestionFileError(message) from error
    if folder is None:
        expected = ", ".join(benchmark.files)
        raise QuestionFileError(f"{benchmark.hub} on the hub holds no file {expected}. Download its files, and {local}")
    return Path(folder)
