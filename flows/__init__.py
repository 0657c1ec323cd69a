"""The flows, which a Prefect worker imports by name."""

import sys
from pathlib import PurePath


def _looks_for_hooks() -> bool:
    """Whether this is the process in which a worker looks for hooks of a run that was cancelled or has crashed."""
    return [PurePath(word).name for word in sys.argv[:2]] == ["_workspace_runtime_bootstrap.py", "hook"]


# No flow has hooks. Until that process ends, the page of the run says Cancelling; it would import torch for nothing.
if _looks_for_hooks():
    raise SystemExit(0)
