"""What comes out of a run, for others: a clean folder of weights with a model card, and its way to the hub."""

from foveate.publishing.export import Exported, ExportError, export_run
from foveate.publishing.hub import push_folder, refuse_no_token

__all__ = ["ExportError", "Exported", "export_run", "push_folder", "refuse_no_token"]
