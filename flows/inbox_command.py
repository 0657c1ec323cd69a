"""The inbox command: reconstruct what is new in a folder."""

import argparse
import os
from typing import Any, get_args


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of ``inbox``."""
    text = "reconstruct, evaluate and report what is new in a folder, as its first run chose"
    command = commands.add_parser("inbox", help=text, description=f"{text.capitalize()}.")
    command.add_argument("source", metavar="FOLDER", help="a folder, a URI, or a data set as datasets/0a1b2c3d4e5f")
    add_choices(command)
    command.add_argument("--workspace", default="workspace", help="folder of all results (default: workspace)")
    command.add_argument("--workers", type=int, default=0, help="Dask workers (default: one per GPU or core)")
    command.set_defaults(run=run_inbox_command)


def add_choices(command: argparse.ArgumentParser) -> None:
    """Add the options that say what the form says of images, measurement and prior."""
    command.add_argument(
        "--files", choices=("dicom", "nifti"), default="dicom", help="what lies there (default: dicom)"
    )
    command.add_argument("--modality", choices=("ct", "mri"), default="ct", help="of the images (default: ct)")
    command.add_argument(
        "--measurement", help="what is simulated, as 'MRI, 4 times faster' (default: what is usual for such images)"
    )
    presets = ("fast", "balanced", "best", "samples")
    command.add_argument(
        "--preset",
        choices=presets,
        default="balanced",
        help="one image of little, more or most time, or eight samples (default: balanced)",
    )
    command.add_argument("--prior", default="", help="as ct-128 or priors/0a1b2c3d4e5f (default: what fits best)")


def choices_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the form says where these options differ from it.

    Raises:
        UserError: if there is no such measurement.
    """
    from scoreinv.errors import UserError
    from tasks.planning.inbox import InboxRequest, Simulated

    usual, *named = get_args(Simulated)
    measurement = options.measurement or usual
    if measurement not in (usual, *named):
        raise UserError(f"there is no measurement {measurement!r}: choose {'; '.join(named)}")
    kind = f"{options.modality.upper()} in {'DICOM' if options.files == 'dicom' else 'NIfTI'} files"
    given = {"files": kind, "measurement": measurement, "preset": options.preset, "prior": options.prior}
    asked = InboxRequest.model_validate({"source": "any", **given})
    return asked.model_dump(exclude={"source"}, exclude_defaults=True)


def run_inbox_command(options: argparse.Namespace) -> int:
    """Run the flow; 0 when it is done."""
    from flows.environment import prepare_prefect
    from storage.uri import is_local, join, local_path, without_credentials
    from tasks.workspace import open_workspace

    choices = choices_of(options)
    source, workspace = without_credentials(options.source), without_credentials(options.workspace)
    if is_local(workspace):
        workspace = str(local_path(workspace).resolve())
    open_workspace(workspace)
    prepare_prefect(workspace)
    from flows.prefect_session import quieten, start_server

    if not os.environ.get("SCOREINV_TRACEBACK"):
        quieten()
    start_server()
    from flows.inbox import inbox_flow

    report: str = inbox_flow(source, workspace=workspace, n_workers=options.workers, **choices)
    print(join(workspace, report) if report else "nothing there yet")
    return 0
