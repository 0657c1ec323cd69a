"""Reading untrusted files in a process of its own, which has a limit of time and of memory.

A decoder that hangs, fills the memory or crashes takes that process with it, and the file is named with the reason;
the next file gets a fresh one. The kernel keeps the limits, so they also hold inside of C code, and also after the
command that asked has been killed. One process is kept and serves all files: it costs a second once, and a
millisecond per slice.
"""

import atexit
import os
import resource
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any, TypeVar

from storage.errors import SourceError
from storage.sources.files import damage_explained

CPU_SECONDS = 8.0
"""Of one file. A slice of 4096 x 4096 in JPEG 2000 takes three."""

WAITING = 20
"""Times the limit of computing, with the time that a disk, the network or other processes take."""

MEMORY_BYTES = 3 << 28
"""Of one file, what was imported included."""

_T = TypeVar("_T")
_lock = Lock()


def within_limits(
    read: Callable[..., _T], *args: object, cpu_seconds: float = CPU_SECONDS, memory_bytes: int = MEMORY_BYTES
) -> _T:
    """What ``read(*args)`` returns, computed in the reading process; its errors are raised here.

    ``read`` is a function of a module (it is sent by name); arguments and result are pickled.

    Raises:
        SourceError: if it exceeds a limit or crashes, and what ``read`` itself raises.
    """
    with _lock:
        reader = _reader(os.getpid())
        try:
            reader.asks.send((read, args, cpu_seconds, memory_bytes))
            is_done, outcome = reader.asks.recv()
        except (EOFError, OSError) as error:
            _reader.cache_clear()
            raise SourceError(_reason(reader.end(), cpu_seconds)) from error
        except BaseException:
            # Interrupted in between: what this process would answer next belongs to nobody.
            _reader.cache_clear()
            reader.process.kill()
            reader.end()
            raise
    if not is_done:
        raise outcome
    return outcome  # type: ignore[no-any-return]


def serve(descriptor: int) -> None:
    """Answers what comes through an open socket, until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the asking process's business.
    for limit in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(limit, signal.SIG_DFL)  # Ends the process; whoever started the command may have ignored it.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGPROF, signal.SIGALRM))
    warnings.simplefilter("ignore")  # Odd values in a file are no news to a user.
    asks = Connection(descriptor)
    asks.send("ready")
    while True:
        try:
            read, args, cpu_seconds, memory_bytes = asks.recv()
        except (EOFError, OSError):
            return
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        signal.setitimer(signal.ITIMER_REAL, WAITING * cpu_seconds)
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        answer = _answer(read, args)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        asks.send(answer)


def _answer(read: Callable[..., Any], args: tuple[object, ...]) -> tuple[bool, Any]:
    try:
        with damage_explained():
            return True, read(*args)
    except SourceError as error:
        return False, error


class _Reader:
    """The reading process and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.asks = Connection(ours.detach())
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"from storage.sources.limits import serve; serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            )
        try:
            self.asks.recv()
        except (EOFError, OSError) as error:
            code = self.end()
            raise RuntimeError(f"the process that reads files did not start ({sys.executable}, code {code})") from error

    def end(self) -> int:
        """The process's exit code; a process that still waits for questions ends now."""
        self.asks.close()
        return self.process.wait()


@lru_cache(maxsize=1)
def _reader(pid: int) -> _Reader:
    # By process: a fork must not talk through its parent's socket.
    reader = _Reader()
    atexit.register(_close, reader, pid)
    return reader


def _close(reader: _Reader, pid: int) -> None:
    if pid == os.getpid() and not reader.asks.closed:
        reader.end()


def _reason(code: int, cpu_seconds: float) -> str:
    if code == -signal.SIGPROF:
        return f"reading it took more than {cpu_seconds:g} s of computing: it was given up"
    if code == -signal.SIGALRM:
        return f"reading it took more than {WAITING * cpu_seconds:g} s: it was given up"
    return f"unreadable: whatever decodes it crashed (exit code {code})"
