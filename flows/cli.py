"""The scoreinv command.

A command is a parser with the function that runs it: ``parser.set_defaults(run=...)``, which takes the options and
returns the exit code. Exit codes:

    0    done
    1    failed: one message, or a traceback where the program itself is at fault; what is done is kept
    2    wrong usage or a wrong recipe: nothing was begun
    130  stopped by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP: 128 and the number of the signal
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from flows import completion, deploy_command, inbox_command, serve, stage_commands, store_commands

STOPS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that stop a command as Ctrl-C does, so that its run, its server and its workers end in order."""

EXIT_CODES = """exit codes: 0 done; 1 failed (what is done is kept, the same command resumes); 2 wrong usage or a wrong
recipe, nothing was begun; 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    try:
        code = _run(_options(arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    # argparse gives up on a key=value that follows an option.
    options, rest = parser.parse_known_args(arguments)
    takes_changes = hasattr(options, "changes")
    if strange := [text for text in rest if text.startswith("-") or "=" not in text or not takes_changes]:
        parser.error(f"unrecognized arguments: {' '.join(strange)}")
    if takes_changes:
        options.changes += rest
    return options


class _Stopped(KeyboardInterrupt):
    """A signal of STOPS came; its argument is the signal's number."""


def _run(options: argparse.Namespace) -> int:
    # What is ignored already stays so: nohup ignores SIGHUP.
    heeded = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in heeded}
    try:
        return int(options.run(options))
    except KeyboardInterrupt as stopped:
        print("stopped; what is done is kept, the same command resumes", file=sys.stderr)
        return 128 + (stopped.args[0] if isinstance(stopped, _Stopped) else signal.SIGINT)
    except Exception as error:
        return _failed(error)
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _stop:
                signal.signal(number, handler)


def _failed(error: Exception) -> int:
    """Say why; where the fault is the program's, where it is. The exit code."""
    from flows.recipe_errors import RecipeError
    from tasks.running.mistakes import explain

    message = explain(error)
    if message is None or os.environ.get("SCOREINV_TRACEBACK"):
        traceback.print_exception(error)
    if message is None:
        message = "this is a fault of scoreinv, not of what you asked for: please report it with the lines above"
    print(f"error: {message}", file=sys.stderr)
    return 2 if isinstance(error, RecipeError) else 1


def _stop(number: int, _: object) -> None:
    # Shells and systems repeat themselves, which must not disturb what ends in order.
    for other in STOPS:
        signal.signal(other, signal.SIG_IGN)
    raise _Stopped(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scoreinv",
        description="Medical images from too few measurements, with score-based generative models.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version of scoreinv, and stop")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    modules = (stage_commands, inbox_command, store_commands, serve, deploy_command, completion)
    for add_commands in (module.add_commands for module in modules):
        add_commands(commands)
    return parser


class _Version(argparse.Action):
    """Prints the version of the installed package."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"scoreinv {version('scoreinv')}")
        parser.exit()


if __name__ == "__main__":
    main()
