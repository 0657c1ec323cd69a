"""Published priors: the weights as safetensors bytes, and the contract that says what they are.

A published prior is a folder with ``contract.json`` and the weights under a name made of their sha256.
The weights are put first and the contract last, so a reader sees the old prior or the new one, whole.
The priors that come with the package are named without a folder; ``scoreinv.shipped`` reads them.
"""

import hashlib

from pydantic import ValidationError

from scoreinv import shipped as package
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


def read_contract(uri_or_name: str) -> PriorContract:
    """The contract alone, without a look at the weights; errors as ``load``."""
    if uri_or_name in shipped():
        return package.prior_contract(uri_or_name)
    if not exists(join(uri_or_name, "contract.json")):
        known = ", ".join(shipped()) or "none"
        raise StoreNotFound(
            f"there is no prior {uri_or_name!r}: no such folder with a contract.json, and no shipped prior of that "
            f"name (shipped: {known})"
        )
    try:
        return PriorContract.model_validate_json(read_bytes(join(uri_or_name, "contract.json")))
    except ValidationError as error:
        raise StoreError(f"the contract of prior {uri_or_name} cannot be read: {error}") from error


def shipped() -> list[str]:
    """Names of the priors that come with the package, sorted."""
    return list(package.prior_names())


def _weights_uri(uri: str, contract: PriorContract) -> str:
    return join(uri, f"{contract.sha256}.safetensors")
