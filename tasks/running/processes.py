"""Processes that end with the one that started them, however that ends: Prefect's server, workers, a training.

Who is killed cannot tell its children. So every child looks, once a second, whether its parent is still the one that
started it; if not, it removes the parent's temporary folder and ends.

Each is in a session of its own: what a terminal sends to all processes of a command (Ctrl-C, its own end) reaches the
command alone, which ends the others in order.
"""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

PARENT = "SCOREINV_PARENT"
"""The environment variable that tells a process who should be its parent."""

FOLDER = "SCOREINV_FOLDER"
"""The environment variable that names the temporary folder of the parent, if it has one."""

READY = "scoreinv: ready "
"""How a line begins in which a ``Child`` says that it is ready; what follows is its answer."""

LOOK_SECONDS = 1.0
GRACE_SECONDS = 8.0
"""How long a process may take to end in order, before it is killed."""

OWN_SERVER = "SCOREINV_OWN_SERVER"
"""Set in the environment of a command whose Prefect server is its own alone."""

N_WORDS = 5
"""Lines that are shown of what a process said before it failed."""


IMPORTS_ALIKE = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
"""With ``PYTHONPATH``: a process imports what this one imports, not what happens to lie in the folder it starts in."""


def import_path() -> str:
    """Where this process looks for modules, as ``PYTHONPATH`` has it."""
    return os.pathsep.join(os.path.abspath(place) for place in sys.path)


def start(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    folder: str = "",
    cwd: str | None = None,
    descriptors: Sequence[int] = (),
) -> "subprocess.Popen[str]":
    """Start ``python -m module arguments``; what it says, in either stream, is read from its ``stdout``.

    The module calls ``end_with_parent`` before it does anything else. It inherits ``descriptors``, under their numbers.
    """
    own = IMPORTS_ALIKE | {"PYTHONPATH": import_path()}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=descriptors,
        env={**os.environ, **(environment or {}), **own, PARENT: str(os.getpid()), FOLDER: folder},
        cwd=cwd,
    )


def end_with_parent() -> None:
    """End this process when its parent dies, and at once if it has; nothing happens if it was started by hand."""
    expected = os.environ.get(PARENT)
    if expected is None:
        return
    if os.getppid() != int(expected):
        _remove_folder()
        sys.exit("the process that started this one is gone")
    # It may also end by itself, as a worker does that has lost its scheduler.
    atexit.register(_clean_up_after, int(expected))
    threading.Thread(target=_watch, args=(int(expected),), daemon=True).start()


def leave() -> None:
    """End this process at once, whatever its threads do."""
    if expected := os.environ.get(PARENT):
        _clean_up_after(int(expected))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _clean_up_after(parent: int) -> None:
    if os.getppid() != parent:
        _remove_folder()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    _remove_folder()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def _remove_folder() -> None:
    if folder := os.environ.get(FOLDER):
        shutil.rmtree(folder, ignore_errors=True)


def say_ready(answer: str = "") -> None:
    """Tell the parent that this process is ready."""
    print(f"{READY}{answer}", flush=True)


class Child:
    """A process that says when it is ready. Its words are kept until then, and passed on to ``stderr`` from then on."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        folder: str = "",
        cwd: str | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.process = start(
            module, *arguments, environment=environment, folder=folder, cwd=cwd, descriptors=descriptors
        )
        self.started = time.monotonic()
        self.answer: str | None = None
        self.has_spoken = threading.Event()
        """Set when it is ready, or has ended."""
        self._words = deque[str](maxlen=1000)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def is_ready(self) -> bool:
        """Whether it said so, also if it has ended since."""
        return self.answer is not None

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def failure(self) -> str:
        """How it ended, and its last words."""
        self.process.wait()
        self._listener.join(timeout=2)
        words = [line for line in self._words if line.strip()]
        return _ending(self.process.returncode) + said(words)

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            if line.startswith(READY) and not self.is_ready:
                self.answer = line.removeprefix(READY).strip()
                self.has_spoken.set()
                sys.stderr.writelines(f"{word}\n" for word in self._words)
            elif self.is_ready:
                sys.stderr.write(line)
            else:
                self._words.append(line.rstrip())
        self.has_spoken.set()


def said(words: list[str]) -> str:
    """What is shown of the lines that a process said before it failed."""
    shown = words if os.environ.get("SCOREINV_TRACEBACK") else _essence(words)
    return "; its last words: " + "\n".join(shown) if shown else ", without a word"


def _essence(words: list[str]) -> list[str]:
    """The last error of a traceback if there is one, which says what happened; else the last lines."""
    starts = [number for number, line in enumerate(words) if line.startswith("Traceback")]
    errors = [line for line in words[starts[-1] + 1 :] if not line.startswith(" ")] if starts else []
    return errors[:1] or words[-N_WORDS:]


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "it was killed (SIGKILL), as the system does when memory is short"
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"


def stop(processes: Iterable["subprocess.Popen[str]"], seconds: float = GRACE_SECONDS) -> None:
    """Ask processes to end, and kill those that have not after a while."""
    processes = list(processes)
    deadline = time.monotonic() + seconds
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in processes:
            process.kill()
            process.wait()
