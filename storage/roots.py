"""Places by the names that an operator gave them: all that a form may read of a machine or of its buckets."""

import re
from collections.abc import Mapping
from typing import Any

from scoreinv.errors import UserError
from storage.uri import is_local, join, local_path, without_credentials

Roots = Mapping[str, str]
"""A folder or a bucket by each name."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

HOW = "`scoreinv deploy --root NAME=PLACE` registers one, or SCOREINV_ROOTS of the worker does"


def checked_roots(given: Any) -> dict[str, str]:
    """Roots as they were registered.

    Raises:
        UserError: if they are no names with absolute folders or URIs, or one holds a password.
    """
    if not isinstance(given, Mapping):
        raise UserError('roots must be names with places, as {"scans": "/data/scans"}')
    for name, place in given.items():
        if not NAME.fullmatch(str(name)):
            raise UserError(f"the root {name!r} needs a name of letters, digits, - and _")
        if not isinstance(place, str) or not _is_whole(without_credentials(place)):
            raise UserError(f"the root {name!r} must be an absolute folder or a URI: {place!r} is neither")
    return {str(name): str(place) for name, place in given.items()}


def place_below(roots: Roots, text: str) -> str:
    """The folder, file or URI that a form names as ROOT/path.

    Raises:
        UserError: if it is not below a root, links out of it, or there is no such root; names those there are.
    """
    name, _, path = text.strip().rstrip("/").partition("/")
    if name not in roots:
        known = ", ".join(sorted(roots)) or "none yet"
        raise UserError(
            f"{without_credentials(text)!r} is not below a registered root: write ROOT/FOLDER with one of these "
            f"roots: {known}; {HOW}"
        )
    root = roots[name]
    place = join(root, path) if path else root
    if is_local(root) and not local_path(place).resolve().is_relative_to(local_path(root).resolve()):
        raise UserError(f"{text!r} leads out of the root {name!r} by a link: register what it leads to as a root")
    return place


def workspace_below(roots: Roots, text: str) -> str:
    """The workspace that a form names: below a root, or a relative folder where the run starts.

    Raises:
        UserError: if it is an absolute path, a URI, or leads out of these.
    """
    if text.partition("/")[0] in roots or "://" in text or text.startswith(("/", "~")):
        return place_below(roots, text)
    return join(".", text.rstrip("/")).removeprefix("./")


def _is_whole(place: str) -> bool:
    return not is_local(place) or local_path(place).is_absolute()
