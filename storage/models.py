"""Published models: the weights as safetensors bytes, and the contract that says what they are.

A model is a prior, or a reconstructor that was trained for one measurement. A published one is a folder with
``contract.json``, and the weights and the contract again under names made of the weights' sha256. ``contract.json`` is
put last, so a reader sees the old model or the new one, whole; who began with the old one and names its sha256 finds it
until it is removed.
The priors that come with the package are named without a folder; ``scoreinv.shipped`` reads them.
"""

import hashlib
from collections.abc import Collection
from io import BytesIO
from zipfile import BadZipFile, ZipFile

from scoreinv import shipped as package
from scoreinv.contract import Contract, parse_contract
from storage.errors import StoreError, StoreMismatch, StoreNotFound
from storage.uri import delete, exists, join, list_names, read_bytes, write_bytes


def publish(uri: str, weights: bytes, contract: Contract) -> None:
    """Puts a model at a URI, in place of the one that may be there.

    Raises:
        StoreMismatch: if the contract's sha256 is not that of the weights.
        StoreFull: if the disk is full; a model that was there before is still whole.
    """
    found = hashlib.sha256(weights).hexdigest()
    if found != contract.sha256:
        raise StoreMismatch(f"the contract of {contract.name!r} is for weights {contract.sha256}, these are {found}")
    text = (contract.model_dump_json(indent=1) + "\n").encode()
    write_bytes(_weights_uri(uri, contract), weights)
    write_bytes(_own_contract_uri(uri, contract.sha256), text)
    write_bytes(join(uri, "contract.json"), text)


def remove_all_but(uri: str, kept: Collection[str]) -> None:
    """Remove the weights of earlier publications at a URI, except those of the given sha256."""
    for name in list_names(uri):
        sha256, _, ending = name.partition(".")
        if len(sha256) == 64 and ending in ("safetensors", "json") and sha256 not in kept:
            delete(join(uri, name))


def load(uri_or_name: str, *, sha256: str = "") -> tuple[bytes, Contract]:
    """The weights and the contract of a published model, or of a prior that comes with the package.

    Args:
        uri_or_name: where it was published, or the name of a shipped one.
        sha256: of the weights that are wanted; empty: those that were published last.

    Raises:
        StoreNotFound: if there is none; the message lists the names that are known.
        StoreMismatch: if the weights are not those that were published, or others were published since.
    """
    contract = read_contract(uri_or_name)
    if sha256 and contract.sha256 != sha256:
        contract = _earlier_contract(uri_or_name, sha256)
    try:
        if uri_or_name in shipped():
            return package.prior_weights(uri_or_name), contract
        weights = read_bytes(_weights_uri(uri_or_name, contract))
        contract.require_weights(weights, uri_or_name)
    except FileNotFoundError as error:
        raise StoreNotFound(str(error)) from error
    except ValueError as error:
        raise StoreMismatch(str(error)) from error
    return weights, contract


def read_contract(uri_or_name: str) -> Contract:
    """The contract alone, without a look at the weights; errors as ``load``."""
    if uri_or_name in shipped():
        return package.prior_contract(uri_or_name)
    if not exists(join(uri_or_name, "contract.json")):
        known = ", ".join(shipped()) or "none"
        raise StoreNotFound(
            f"there is no prior {uri_or_name!r}: no such folder with a contract.json, and no shipped prior of that "
            f"name (shipped: {known})"
        )
    return _parsed(join(uri_or_name, "contract.json"))


def is_whole_archive(content: bytes) -> bool:
    """Whether these are all the bytes of a zip archive, as checkpoints are, by its checksums."""
    try:
        with ZipFile(BytesIO(content)) as archive:
            return archive.testzip() is None
    except (BadZipFile, EOFError, OSError, RuntimeError, ValueError):
        return False


def shipped() -> list[str]:
    """Names of the priors that come with the package, sorted."""
    return list(package.prior_names())


def _earlier_contract(uri: str, sha256: str) -> Contract:
    """Of weights that others have followed."""
    own = _own_contract_uri(uri, sha256)
    if uri in shipped() or not exists(own) or not exists(join(uri, f"{sha256}.safetensors")):
        raise StoreMismatch(
            f"the model {uri} was published anew since this run began (its weights {sha256[:12]} are gone): run the "
            "same command again, which takes those that are there now"
        )
    return _parsed(own)


def _parsed(contract_uri: str) -> Contract:
    try:
        return parse_contract(read_bytes(contract_uri))
    except ValueError as error:
        raise StoreError(f"the contract of a model at {contract_uri} cannot be read: {error}") from error


def _own_contract_uri(uri: str, sha256: str) -> str:
    return join(uri, f"{sha256}.json")


def _weights_uri(uri: str, contract: Contract) -> str:
    return join(uri, f"{contract.sha256}.safetensors")
