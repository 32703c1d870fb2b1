"""To the hub: the folder as it is, nothing more and nothing less."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from foveate.families import EMBEDDED
from foveate.publishing.export import Exported, ExportError


def refuse_no_token() -> None:
    """Before minutes are spent on an export that could not be uploaded.

    Raises:
        ExportError: there is no token.
    """
    if not get_token():
        raise ExportError(
            "no token of the hub: run `hf auth login`, or set HF_TOKEN to a token that may write "
            "(https://huggingface.co/settings/tokens)"
        )


def push_folder(exported: Exported, repo: str, *, private: bool = False) -> str:
    """Uploads an exported folder as the model `repo` ("owner/name"), which is made where it is missing; its address.

    Raises:
        ExportError: there is no token, the hub refuses, or these are adapters of a model that nobody else has.
    """
    refuse_no_token()
    if exported.adapter and (exported.base == EMBEDDED or Path(exported.base).is_dir()):
        raise ExportError(
            f"these are adapters of {exported.base}, which is not on the hub: export the whole model, without --adapter"
        )
    api = HfApi()
    try:
        made = api.create_repo(repo, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=exported.folder, commit_message="A model made with foveate")
    except HfHubHTTPError as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"{repo} cannot be written to: {reason}. The folder stays in {exported.folder}") from error
    return str(made)
