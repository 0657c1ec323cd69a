"""A hospital's installation on this machine, as docs/operations.md sets it up by hand, with everything in buckets.

PostgreSQL, Ceph's S3 gateway, Prefect's server with a password, two workers and the reports; each a process.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.buckets.clouds import Cloud, ceph
from tests.buckets.s3 import forgotten, make_bucket
from tests.operations.postgresql import PASSWORD, postgresql
from tests.operations.processes import answers, free_ports, process, until

ROOT = Path(__file__).parents[2]
USER = "operator"
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Installation:
    """What runs, and how an operator calls it."""

    def __init__(self, folder: Path, running: ExitStack, database: int, cloud: Cloud) -> None:
        self.folder, self.running, self.cloud = folder, running, cloud
        server, reports = free_ports(2)
        self.page, self.reports = f"http://127.0.0.1:{server}", f"http://127.0.0.1:{reports}"
        self.scans, self.archive = make_bucket(), make_bucket()
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        known = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCOREINV_"))}
        self._server = known | {
            "PREFECT_HOME": str(folder / "server"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://prefect:{PASSWORD}@127.0.0.1:{database}/prefect",
            "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "30",
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
            "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{PASSWORD}",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_SERVER_UI_API_URL": f"{self.page}/api",
        }
        self._worker = known | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": f"{self.page}/api",
            "PREFECT_API_AUTH_STRING": f"{USER}:{PASSWORD}",
            "SCOREINV_REPORT_URL": self.reports,
            "OMP_NUM_THREADS": "1",
        }

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        """A process that runs until the installation ends, in a folder of its own; its log lies beside that."""
        (self.folder / name).mkdir(exist_ok=True)
        log = self.folder / f"{name}.log"
        return self.running.enter_context(process(command, log, self.folder / name, environment))

    def start_server(self) -> None:
        """Prefect's, on a new database."""
        host, port = self.page.removeprefix("http://").split(":")
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", port]
        self.start("server", command, self._server)
        until(lambda: answers(f"{self.page}/api/health"), "the server is up, with a new database,")

    def start_worker(self, name: str) -> None:
        """One of several; their runs start in its folder."""
        command = ["prefect", "worker", "start", "--pool", "scoreinv", "--type", "process", "--name", name]
        self.workers[name] = self.start(name, command, self._worker)

    def start_reports(self) -> None:
        """The reports of the workspace that the walk uses."""
        port = self.reports.rpartition(":")[2]
        self.start("reports", ["scoreinv", "serve", "--workspace", self.workspace, "--port", port], self._worker)
        until(lambda: answers(self.reports), "the reports are up")

    @property
    def workspace(self) -> str:
        """The URI of what a form calls archive/results."""
        return f"{self.archive}/results"

    def call(self, *command: str) -> str:
        """A command of the operator, to its end; what it says."""
        done = subprocess.run(
            command, cwd=self.folder, env=self._worker, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        said = done.stdout.decode()
        assert done.returncode == 0, said
        return said

    def ask(self, path: str, **content: Any) -> Any:
        """What the API answers to a POST, or to a GET where there is no content."""
        with httpx.Client(base_url=f"{self.page}/api/", auth=(USER, PASSWORD), timeout=120) as client:
            return (client.post(path, json=content) if content else client.get(path)).raise_for_status().json()

    def run(self, ident: str) -> dict[str, Any]:
        """A run, as the API tells of it."""
        found: dict[str, Any] = self.ask(f"flow_runs/{ident}")
        return found


@contextmanager
def installation(folder: Path) -> Iterator[Installation]:
    """A block in which all of it runs, with the deployments and the roots scans and archive registered."""
    (folder / "ceph").mkdir(parents=True)
    with postgresql() as database, ceph(folder / "ceph") as cloud, forgotten(), ExitStack() as running:
        os.environ.update(cloud.environment(cloud.endpoint))
        made = Installation(folder, running, database, cloud)
        made.start_server()
        print(made.call("scoreinv", "deploy", "--root", f"scans={made.scans}", "--root", f"archive={made.archive}"))
        for name in ("ward-a", "ward-b"):
            made.start_worker(name)
        made.start_reports()
        yield made
