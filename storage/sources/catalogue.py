"""What was found in the files of a source, kept so that a source that grew costs the reading of what is new.

A finding is true as long as its files have the stamps (size, times, a bucket's ETag) that they had. The catalogue
names files and people as the source does, so it is private; it may be removed at any time, and is then made again.
"""

import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from scoreinv.spec import Json, digest_of
from storage.errors import StoreError
from storage.sources.files import Stamp
from storage.uri import join, read_bytes, write_bytes

VERSION = 1
"""Of how files are read, raised when something else is found in the same files."""

SETTLED_NS = 3 * 10**9
"""A file that was changed so shortly before it was listed may change again without another stamp."""

SAVE_SECONDS = 60.0
"""So often a long scan saves what it found, to be taken up where it was ended."""


class Catalogue(NamedTuple):
    """The folder that keeps findings; without one nothing is remembered."""

    folder: str = ""
    code: Callable[[str], str] = str
    """What it keeps instead of names of people, who are compared with others by it."""

    @contextmanager
    def memory(self, source: str, stamps: Mapping[str, Stamp]) -> Iterator["Memory"]:
        """What is known of a source with these options (by their digest), whose files are now as these stamps say.

        What was found is kept at the end, also if the scan is ended early.
        """
        uri = join(self.folder, f"{source}.json.gz") if self.folder else ""
        memory = Memory(uri, stamps)
        ended = False
        try:
            yield memory
            ended = True
        finally:
            memory.save(forgets=ended)


class Memory:
    """What is known of the files of one source, by their stamps."""

    def __init__(self, uri: str, stamps: Mapping[str, Stamp]) -> None:
        self._uri, self._stamps = uri, stamps
        self._known = _read(uri)
        self._found: dict[str, list[Any]] = {}
        self._n_new, self._now, self._saved = 0, time.time_ns(), time.monotonic()

    def recall(self, what: str, files: Sequence[str]) -> Json:
        """What was kept under this name; None if nothing was, or one of the files has changed since."""
        found = self._known.get(what)
        if found is None or found[0] != self._stamp_of(files):
            return None
        self._found[what] = found
        return found[1]  # type: ignore[no-any-return]

    def keep(self, what: str, files: Sequence[str], finding: Json) -> None:
        """Keeps what was found in files; not of one that has no stamp, or is changing."""
        if not self._uri or (stamp := self._stamp_of(files)) is None:
            return
        self._found[what] = [stamp, finding]
        self._n_new += 1
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save(forgets=False)

    def save(self, *, forgets: bool) -> None:
        """Writes what was found, if that is something else than before.

        Args:
            forgets: what was not asked for; its files are gone.
        """
        if self._uri and (self._n_new or (forgets and len(self._found) < len(self._known))):
            findings = self._found if forgets else {**self._known, **self._found}
            content = json.dumps({"version": VERSION, "findings": findings})
            write_bytes(self._uri, gzip.compress(content.encode(), 1), is_private=True)
            self._n_new = 0
        self._saved = time.monotonic()

    def _stamp_of(self, files: Sequence[str]) -> Json:
        stamps = [self._stamps.get(file, Stamp()) for file in files]
        if any(not _is_settled(stamp, self._now) for stamp in stamps):
            return None
        return (
            list(stamps[0])
            if len(stamps) == 1
            else digest_of([[file, *of] for file, of in zip(files, stamps, strict=True)])
        )


def digest_of_stamps(stamps: Mapping[str, Stamp]) -> str:
    """12 hexadecimal digits that are others when a file came, went or changed; empty where that cannot be told."""
    now = time.time_ns()
    if not stamps or not all(_is_settled(stamp, now) for stamp in stamps.values()):
        return ""
    return digest_of([[file, *stamp] for file, stamp in sorted(stamps.items())])


def _is_settled(stamp: Stamp, now: int) -> bool:
    return stamp != Stamp() and (bool(stamp.etag) or max(stamp.mtime_ns, stamp.ctime_ns) < now - SETTLED_NS)


def _read(uri: str) -> dict[str, list[Any]]:
    """The findings of earlier scans; none if there was none, it is damaged, or another version made it."""
    try:
        content = json.loads(gzip.decompress(read_bytes(uri))) if uri else {}
        return dict(content["findings"]) if content.get("version") == VERSION else {}
    except (StoreError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        return {}
