"""The commands; each imports what it needs, as the machine with the GPU has few packages."""

import argparse
import sys

import benchmarks.gpu


def main(arguments: list[str]) -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=benchmarks.gpu.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("pack", "run", "part", "show", "publish"))
    command = parser.parse_args(arguments[:1]).command
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.gpu {command}")
    if command in ("run", "part"):
        from benchmarks.gpu import running

        add, run = (running.add_options, running.main) if command == "run" else (running.add_part_options, running.part)
    elif command == "pack":
        from benchmarks.gpu.packing import add_options as add
        from benchmarks.gpu.packing import main as run
    elif command == "show":
        from benchmarks.gpu.showing import add_options as add
        from benchmarks.gpu.showing import main as run
    else:
        from benchmarks.gpu.publishing import add_options as add
        from benchmarks.gpu.publishing import main as run
    add(parser)
    run(parser.parse_intermixed_args(arguments[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
