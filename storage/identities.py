"""Names of people in results: as the source has them, or salted hashes in their place.

A hash is HMAC-SHA256 of the name under a secret salt of the workspace: without the salt nobody can tell whether a known
name is in the data. Within a workspace the same name always gets the same hash. The salt lies in
``<workspace>/.salt``, made at its first use; where several workspaces have to agree, the environment variable
SCOREINV_SALT holds it.
"""

import hmac
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal

from scoreinv.errors import UserError
from storage.errors import StoreError
from storage.listing import Listing, Rejected, SliceRecord
from storage.uri import create_bytes, exists, join, read_bytes

Identities = Literal["hashed", "kept"]
"""What stands for people, series and files in results."""

SALT_VARIABLE = "SCOREINV_SALT"

MIN_SALT_LETTERS = 16

N_DIGITS = 20
"""Hexadecimal digits of a hash: 80 bits, so that no two of a million names share one."""

_UID = re.compile(r"\d+(?:\.\d+){4,}")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NUMBERED = re.compile(r"(\d+/)(.+)", re.DOTALL)

Hash = Callable[[str], str]


class Hasher:
    """Names to hashes, under the salt of a workspace, which is made when the first name is hashed."""

    def __init__(self, workspace: str) -> None:
        self.workspace = workspace

    def __call__(self, name: str) -> str:
        """20 hexadecimal digits that depend on the salt and the name.

        Raises:
            StoreError: if the salt cannot be read.
            ValueError: if SCOREINV_SALT is too short to be a secret.
        """
        return hmac.digest(self._salt, name.encode("utf-8", "surrogateescape"), "sha256").hex()[:N_DIGITS]

    def was_used(self) -> bool:
        """Whether there is a salt: without one no name of this workspace was ever hashed."""
        return SALT_VARIABLE in os.environ or exists(_salt_uri(self.workspace))

    @cached_property
    def _salt(self) -> bytes:
        given = os.environ.get(SALT_VARIABLE)
        if given is None:
            return _salt_of(self.workspace)
        if len(given) < MIN_SALT_LETTERS:
            raise UserError(
                f"{SALT_VARIABLE} has {len(given)} letters: a secret of {MIN_SALT_LETTERS} or more was wanted, "
                "for example what `openssl rand -hex 32` prints"
            )
        return given.encode()


def hidden(listing: Listing, code: Hash) -> Listing:
    """The listing with hashes for every name of a person, a series or a file.

    Of the reason why a file was rejected the first clause stays, up to a colon or a bracket: the rest may quote
    what stands in the file.
    """
    slices = tuple(_hidden_record(record, code) for record in listing.slices)
    rejected = tuple(_hidden_rejected(one, code) for one in listing.rejected)
    volumes = {code(name): _hidden_geometry(geometry, code) for name, geometry in listing.volumes.items()}
    return Listing(slices=slices, rejected=rejected, volumes=volumes)


def names_in(known: Collection[str], names: Iterable[str], hasher: Hasher) -> tuple[str, ...]:
    """Names of people, given as their source has them, as data sets of a workspace have them: as they are, or hashed.

    A number and a slash in front, of one of several sources, are not hashed. Names that the data sets do not have stay.
    """
    found: dict[str, None] = {}
    for name in names:
        candidates = [name, *_hashed(name, hasher)] if hasher.was_used() else [name]
        found |= dict.fromkeys([one for one in candidates if one in known] or [name])
    return tuple(found)


def _hashed(name: str, hasher: Hasher) -> list[str]:
    numbered = _NUMBERED.fullmatch(name)
    return [hasher(name), *([numbered[1] + hasher(numbered[2])] if numbered else [])]


def _salt_uri(workspace: str) -> str:
    return join(workspace, ".salt")


def _salt_of(workspace: str) -> bytes:
    place = _salt_uri(workspace)
    if not exists(place):
        # If another process makes one in the same moment, its salt is the one.
        create_bytes(place, secrets.token_hex(32).encode(), is_private=True)
    try:
        salt = read_bytes(place)
    except PermissionError as error:
        raise StoreError(
            f"{place}, the secret by which this workspace hashes names, is not yours to read: ask its owner, "
            f"or set {SALT_VARIABLE} to the same secret for all"
        ) from error
    if len(salt) < MIN_SALT_LETTERS:
        raise StoreError(
            f"{place} is damaged: put back the file that was there, or the same people will get other hashes"
        )
    return salt


def _hidden_record(record: SliceRecord, code: Hash) -> SliceRecord:
    names = ("slice_id", "volume_id", "subject_id", "file")
    return record.model_copy(update={name: code(getattr(record, name)) for name in names})


def _hidden_rejected(rejected: Rejected, code: Hash) -> Rejected:
    return Rejected(file=code(rejected.file), reason=_without_names(rejected.reason, rejected.file, code))


def _without_names(reason: str, file: str, code: Hash) -> str:
    clause = re.split(r": | \(", reason, maxsplit=1)[0]
    clause = _UID.sub(lambda found: code(found[0]), _QUOTED.sub("…", clause))
    path = PurePosixPath(file)
    for name in sorted({file, path.stem, *path.parts}, key=len, reverse=True):
        # Short ones are words or numbers of the sentence.
        clause = clause.replace(name, "…") if len(name) > 3 else clause
    return clause


def _hidden_geometry(geometry: dict[str, Any], code: Hash) -> dict[str, Any]:
    return {key: code(str(value)) if key.endswith("_uid") else value for key, value in geometry.items()}
