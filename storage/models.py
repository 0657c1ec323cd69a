"""Published priors: the weights as safetensors bytes, and the contract that says what they are.

A published prior is a folder with ``contract.json`` and the weights under a name made of their sha256.
The weights are put first and the contract last, so a reader sees the old prior or the new one, whole.
The priors that come with the package lie in scoreinv/priors as NAME.safetensors beside NAME.json.
"""

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import BytesIO
from zipfile import BadZipFile, ZipFile

from pydantic import ValidationError

from scoreinv.contract import PriorContract
from storage.errors import StoreError, StoreMismatch, StoreNotFound
from storage.uri import exists, join, read_bytes, write_bytes


def publish(uri: str, weights: bytes, contract: PriorContract) -> None:
    """Puts a prior at a URI, in place of the one that may be there.

    Raises:
        StoreMismatch: if the contract's sha256 is not that of the weights.
        StoreFull: if the disk is full; a prior that was there before is still whole.
    """
    found = hashlib.sha256(weights).hexdigest()
    if found != contract.sha256:
        raise StoreMismatch(f"the contract of {contract.name!r} is for weights {contract.sha256}, these are {found}")
    write_bytes(_weights_uri(uri, contract), weights)
    write_bytes(join(uri, "contract.json"), (contract.model_dump_json(indent=1) + "\n").encode())


def load(uri_or_name: str) -> tuple[bytes, PriorContract]:
    """The weights and the contract of a published prior, or of one that comes with the package.

    Raises:
        StoreNotFound: if there is none; the message lists the names that are known.
        StoreMismatch: if the weights are not those that were published.
    """
    contract = read_contract(uri_or_name)
    is_shipped = uri_or_name in shipped()
    weights = _shipped_weights(uri_or_name) if is_shipped else read_bytes(_weights_uri(uri_or_name, contract))
    return _verified(weights, contract, uri_or_name), contract


def read_contract(uri_or_name: str) -> PriorContract:
    """The contract alone, without a look at the weights; errors as ``load``."""
    if uri_or_name in shipped():
        return _contract((_shipped_folder() / f"{uri_or_name}.json").read_bytes(), uri_or_name)
    if not exists(join(uri_or_name, "contract.json")):
        known = ", ".join(shipped()) or "none"
        raise StoreNotFound(
            f"there is no prior {uri_or_name!r}: no such folder with a contract.json, and no shipped prior of that "
            f"name (shipped: {known})"
        )
    return _contract(read_bytes(join(uri_or_name, "contract.json")), uri_or_name)


def is_whole_archive(content: bytes) -> bool:
    """Whether these are all the bytes of a zip archive, as checkpoints are, by its checksums."""
    try:
        with ZipFile(BytesIO(content)) as archive:
            return archive.testzip() is None
    except (BadZipFile, EOFError, OSError, RuntimeError, ValueError):
        return False


def shipped() -> list[str]:
    """Names of the priors that come with the package, sorted."""
    folder = _shipped_folder()
    names = [item.name for item in folder.iterdir()] if folder.is_dir() else []
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def _shipped_weights(name: str) -> bytes:
    try:
        return (_shipped_folder() / f"{name}.safetensors").read_bytes()
    except FileNotFoundError as error:
        raise StoreNotFound(
            f"the weights of the shipped prior {name!r} are missing: install the package anew"
        ) from error


def _shipped_folder() -> Traversable:
    return files("scoreinv") / "priors"


def _weights_uri(uri: str, contract: PriorContract) -> str:
    return join(uri, f"{contract.sha256}.safetensors")


def _contract(content: bytes, where: str) -> PriorContract:
    try:
        return PriorContract.model_validate_json(content)
    except ValidationError as error:
        raise StoreError(f"the contract of prior {where} cannot be read: {error}") from error


def _verified(weights: bytes, contract: PriorContract, where: str) -> bytes:
    found = hashlib.sha256(weights).hexdigest()
    if found != contract.sha256:
        raise StoreMismatch(
            f"prior {where} is damaged (its weights have sha256 {found}, the contract says {contract.sha256}): "
            "fetch it again"
        )
    return weights
