"""Encrypted connections between a scheduler, its workers and its clients; who has no certificate is refused.

A scheduler runs whatever it is sent, so anybody who reaches one that is not encrypted can run anything as its owner.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Security
from pydantic import Field

from scoreinv.errors import MissingPackage
from scoreinv.spec import Spec

_ROLES = ("scheduler", "worker", "client")


class Certificates(Spec):
    """Files in PEM format, as ``dask scheduler`` takes them with --tls-ca-file, --tls-cert and --tls-key."""

    ca: str = Field(description="Certificate of the authority that signed those of scheduler and workers.")
    cert: str = Field(description="Certificate of this side, signed by the same authority.")
    key: str = Field(description="Private key of that certificate.")

    def security(self) -> Security:
        """What a client shows the scheduler, and wants to see of it."""
        return Security(
            require_encryption=True, tls_ca_file=self.ca, tls_client_cert=self.cert, tls_client_key=self.key
        )


@contextmanager
def encrypted(is_on: bool) -> Iterator[Security | None]:
    """A block whose schedulers and clients in this process use certificates that are made for it, and kept in memory.

    Nothing happens if it is not on.

    Raises:
        MissingPackage: without the package ``cryptography``.
    """
    if not is_on:
        yield None
        return
    try:
        made = Security.temporary()
    except ImportError as error:
        raise MissingPackage("cluster.tls=true needs the package 'cryptography': pip install cryptography") from error
    with dask.config.set(_config(made)):
        yield made


def worker_environment(security: Security | None) -> dict[str, str]:
    """The environment variables by which a worker of that block is let in: as private as the process that has them."""
    if security is None:
        return {}
    names = {key: "DASK_" + key.upper().replace("-", "_").replace(".", "__") for key in _config(security)}
    return {
        names[key]: str(value)
        for key, value in _config(security).items()
        if not key.startswith(("distributed.comm.tls.scheduler", "distributed.comm.tls.client"))
    }


def _config(security: Security) -> dict[str, object]:
    parts = {
        f"distributed.comm.tls.{role}.{part}": getattr(security, f"tls_{role}_{part}")
        for role in _ROLES
        for part in ("cert", "key")
    }
    return {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": security.tls_ca_file,
        **parts,
    }
