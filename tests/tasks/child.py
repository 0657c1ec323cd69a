"""A process for the tests of ``tasks.running.processes``: python -m tests.tasks.child WHAT."""

import os
import signal
import sys
import time

from tasks.running.processes import end_with_parent, say_ready, start


def main(what: str) -> None:
    """Do what the tests want a child to do."""
    end_with_parent()
    print("a word", flush=True)
    if what == "fail":
        raise ImportError("libnothere.so: cannot open")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say_ready("42")
    print("another word", flush=True)
    if what == "parent":
        grandchild = start("tests.tasks.child", "stubborn", folder=os.environ["SCOREINV_TEST_FOLDER"])
        print(grandchild.pid, flush=True)
    time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1])
