"""The services of deployments/docker on this machine, each by its own command: PostgreSQL, Prefect, Dask, a run.

make test-operations        (needs PostgreSQL: apt-get install postgresql)
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.operations.postgresql import PASSWORD, call, postgresql, sql
from tests.operations.processes import answers, free_ports, process, until
from tests.test_docker import FOLDER, SERVICES, words

pytestmark = [pytest.mark.operations, pytest.mark.timeout(1500)]

ROOT = FOLDER.parents[1]
AUTH = "operator:secret"


class Services:
    """What runs, on free ports of this machine, with its words in one folder."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.folder = folder
        self.running = running
        self.ports = dict(
            zip(("database", "server", "scheduler", "8787", "8788", "8080", "reports"), free_ports(7), strict=True)
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.api = f"http://127.0.0.1:{self.ports['server']}/api"

    def environment(self, name: str) -> dict[str, str]:
        """Of the image and of compose.yaml, with this machine's addresses."""
        own = {key: self._here(str(value)) for key, value in SERVICES[name].get("environment", {}).items()}
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "app"),
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
            "PREFECT_WORKER_WEBSERVER_PORT": str(self.ports["8080"]),
            **own,
        }

    def start(self, name: str, number: int = 0) -> None:
        """The command of a service, in the folder that stands for /app."""
        command = [self._here(word) for word in words(name)]
        self.processes[f"{name}-{number}"] = self.running.enter_context(
            process(command, self.folder / f"{name}-{number}.log", self.folder / "app", self.environment(name))
        )

    def call(self, *command: str, name: str = "deploy") -> "subprocess.CompletedProcess[str]":
        """A command in the environment of a service, to its end."""
        return subprocess.run(
            command, cwd=self.folder / "app", env=self.environment(name), capture_output=True, text=True, check=False
        )

    def _here(self, text: str) -> str:
        for known, here in {
            "server:4200": f"127.0.0.1:{self.ports['server']}",
            "scheduler:8786": f"127.0.0.1:{self.ports['scheduler']}",
            "database:5432": f"127.0.0.1:{self.ports['database']}",
            "127.0.0.1:8787": f"127.0.0.1:{self.ports['8787']}",
            # Two of them are on one machine here.
            "127.0.0.1:8788": "127.0.0.1:0",
            "0.0.0.0": "127.0.0.1",
            "${POSTGRES_PASSWORD}": PASSWORD,
        }.items():
            text = text.replace(known, here)
        here = {"4200": str(self.ports["server"]), "8786": str(self.ports["scheduler"])}
        return AUTH if text.startswith("${PREFECT_AUTH") else here.get(text, text)

    def client(self) -> httpx.Client:
        name, _, password = AUTH.partition(":")
        return httpx.Client(base_url=f"{self.api}/", auth=(name, password), timeout=60)


@pytest.fixture(scope="module")
def database() -> Iterator[int]:
    with postgresql() as port:
        yield port


@pytest.fixture(scope="module")
def services(database: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """All of them, up and registered; a folder with links to the checkout stands for the image's /app."""
    folder = tmp_path_factory.mktemp("services")
    (folder / "app").mkdir()
    for name in ("scoreinv", "storage", "tasks", "flows", "examples", "deployments"):
        (folder / "app" / name).symlink_to(ROOT / name)
    with ExitStack() as running:
        started = Services(folder, running)
        started.ports["database"] = database
        started.start("server")
        until(lambda: answers(f"{started.api}/health"), "the server is up, with a new database,")
        for turn in ("first", "second"):
            begin = time.monotonic()
            done = started.call(*words("deploy"))
            assert done.returncode == 0, done.stdout + done.stderr + (folder / "server-0.log").read_text()[-4000:]
            print(f"deploy, the {turn} time: {time.monotonic() - begin:.0f} s")
        started.start("scheduler")
        until(lambda: answers(f"http://127.0.0.1:{started.ports['8787']}/health"), "the scheduler is up")
        for number in range(2):
            started.start("dask-worker", number)
        started.start("worker")
        until(lambda: answers(f"http://127.0.0.1:{started.ports['8080']}/health"), "the worker is up")
        yield started


def run_of(services: Services, name: str, **parameters: object) -> dict[str, object]:
    """A run of a deployment, as the button of the UI starts it, when it has ended."""
    with services.client() as client:
        deployment = client.get(f"deployments/name/{name}").raise_for_status().json()
        run = client.post(f"deployments/{deployment['id']}/create_flow_run", json={"parameters": parameters}).json()

        def state() -> dict[str, object]:
            return client.get(f"flow_runs/{run['id']}").raise_for_status().json()["state"]  # type: ignore[no-any-return]

        until(lambda: state()["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"), f"{name} has ended")
        return state()


def test_the_server_asks_for_its_password(services: Services) -> None:
    assert httpx.get(f"{services.api}/flows/count").status_code != 200
    assert httpx.post(f"{services.api}/flows/count", json={}).status_code == 401


def test_a_run_goes_through_dask_to_a_report(services: Services) -> None:
    address = f"tcp://127.0.0.1:{services.ports['scheduler']}"
    changes = ["execution.cluster.kind=remote", f"execution.cluster.address={address}"]
    state = run_of(services, "recipe/smoke", n_workers=0, changes=changes)
    assert state["type"] == "COMPLETED", state
    assert list((services.folder / "app" / "workspace").glob("reports/*/report.html"))
    logs = "".join(path.read_text() for path in services.folder.glob("dask-worker-*.log"))
    assert "Registered to" in logs
    _print_memory(services)
    print("database:", sql(services.ports["database"], "select pg_size_pretty(pg_database_size('prefect'))"))


def test_a_second_deploy_keeps_limits_and_schedules(services: Services) -> None:
    limit = services.call("prefect", "work-queue", "set-concurrency-limit", "accelerator", "3", "--pool", "scoreinv")
    assert limit.returncode == 0, limit.stderr
    made = services.call("prefect", "deployment", "schedule", "create", "recipe/smoke", "--cron", "0 2 * * *")
    assert made.returncode == 0, made.stderr
    assert services.call(*words("deploy")).returncode == 0
    with services.client() as client:
        queue = client.get("work_pools/scoreinv/queues/accelerator").json()
        schedules = client.get("deployments/name/recipe/smoke").json()["schedules"]
    assert queue["concurrency_limit"] == 3
    assert [one["schedule"]["cron"] for one in schedules] == ["0 2 * * *"]


def test_a_dump_gives_all_runs_back(services: Services, tmp_path: Path) -> None:
    port = services.ports["database"]
    call("pg_dump", port, "--format", "custom", "--file", str(tmp_path / "prefect.dump"), "prefect")
    sql(port, "create database restored", "postgres")
    call("pg_restore", port, "--no-owner", "--dbname", "restored", str(tmp_path / "prefect.dump"))
    count = "select count(*) from flow_run"
    assert int(sql(port, count, "restored")) == int(sql(port, count)) > 0
    print(f"dump: {(tmp_path / 'prefect.dump').stat().st_size / 1e6:.1f} MB")


def _print_memory(services: Services) -> None:
    for name, one in services.processes.items():
        of_all = [psutil.Process(one.pid), *psutil.Process(one.pid).children(recursive=True)]
        print(f"{name}: {sum(each.memory_info().rss for each in of_all) / 2**20:.0f} MiB")
