"""The deploy command: everything that a Prefect server needs for scoreinv, as often as you like."""

import argparse
import asyncio
import os
import sys

from flows.inbox_command import add_choices, choices_of
from scoreinv.errors import UserError


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of ``deploy``."""
    text = "make work pool, limits, roots, deployments and automations on the Prefect server at PREFECT_API_URL"
    again = "What is there already stays; run it as often as you like."
    command = commands.add_parser("deploy", help=text, description=f"{text[:1].upper()}{text[1:]}. {again}")
    command.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="NAME=PLACE",
        help="a folder or bucket below which forms may read, as scans=/data/scans or in=s3://bucket/in; NAME= takes it "
        "away; may be given several times",
    )
    command.add_argument(
        "--inbox",
        action="append",
        default=[],
        metavar="ROOT/FOLDER",
        help="a folder that is looked into every night, as the options from --files to --workspace say; may be given "
        "several times",
    )
    add_choices(command)
    command.add_argument(
        "--workspace",
        default="workspace",
        metavar="ROOT/FOLDER",
        help="folder of all results of a new --inbox (default: workspace, where its worker runs)",
    )
    command.add_argument("--cron", default="0 2 * * *", help="when, in UTC, a new --inbox is (default: '0 2 * * *')")
    command.add_argument(
        "--webhook", default="", metavar="URL", help="called when a run fails or crashes; kept in a block of Prefect"
    )
    command.add_argument(
        "--reconstruct-ingested",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether what the deployment ingest makes is reconstructed at once (at first it is not)",
    )
    command.set_defaults(run=run_deploy)


def run_deploy(options: argparse.Namespace) -> int:
    """Say what was made or changed; 0 then."""
    if not os.environ.get("PREFECT_API_URL"):
        raise UserError("set PREFECT_API_URL to the address of a Prefect server, as http://127.0.0.1:4200/api")
    from flows.environment import prepare_prefect

    prepare_prefect(".")
    from flows.deployment import Wishes, deploy
    from flows.prefect_session import start_server

    roots = dict(_root(text) for text in options.root)
    if options.webhook and not options.webhook.startswith(("http://", "https://")):
        raise UserError("--webhook must be an http or https address")
    form = choices_of(options) | ({} if options.workspace == "workspace" else {"workspace": options.workspace})
    wishes = Wishes(roots, options.inbox, options.cron, options.webhook, options.reconstruct_ingested, form)
    start_server()
    done = asyncio.run(deploy(wishes))
    for sentence in done:
        print(sentence)
    print(f"{len(done)} changes" if done else "no change: all is there", file=sys.stderr)
    return 0


def _root(text: str) -> tuple[str, str]:
    name, sign, place = text.partition("=")
    if not sign:
        raise UserError(f"--root {text}: write NAME=PLACE, as scans=/data/scans")
    return name, place
