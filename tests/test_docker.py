"""deployments/docker: what a container engine would find there, seen without one."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker
from docker.utils.build import exclude_paths

from flows.cli import _parser
from tasks.running.cluster import SLOT
from tasks.workers.setup import KEEP_MEMORY

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deployments" / "docker"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if name != "database"}
BIN = Path(sys.executable).parent
FILLED = {"POSTGRES_PASSWORD": "secret", "PREFECT_AUTH": "operator:secret", "SCANS": "/data/scans"}

each_service = pytest.mark.parametrize("name", SERVICES)


def compose(*files: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Docker's own reading of the files, which needs no engine."""
    names = [part for file in files for part in ("--file", str(FOLDER / file))]
    command = [BIN / "docker-compose", "--env-file", os.devnull, *names, "config", "--format", "json"]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def words(name: str) -> list[str]:
    command = SERVICES[name]["command"]
    return shlex.split(command) if isinstance(command, str) else command


@pytest.fixture(scope="module")
def context() -> set[str]:
    """The files that a build sees of this checkout; the last two, which every engine reads, are no part of an image."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    files = {path for path in exclude_paths(str(ROOT), patterns) if (ROOT / path).is_file()}
    return files - {".dockerignore", "Dockerfile"}


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]], ids=["cpu", "gpu"])
def test_compose_reads_its_files(files: list[str]) -> None:
    done = compose(*files, **FILLED)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["services"].keys() == SERVICES.keys()


@pytest.mark.parametrize("missing", FILLED)
def test_compose_starts_nothing_without_its_secrets(missing: str) -> None:
    done = compose("compose.yaml", **{name: value for name, value in FILLED.items() if name != missing})
    assert done.returncode != 0
    assert re.search(rf"required variable {missing} is missing a value: .*, in \.env", done.stderr)


def test_the_example_names_every_variable_and_holds_no_secret() -> None:
    used = set(re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text()))
    given = dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / ".env.example").read_text(), re.MULTILINE))
    assert given.keys() == used
    assert {name for name, value in given.items() if not value} == FILLED.keys()


def test_git_and_the_image_leave_secrets_out(context: set[str]) -> None:
    ignored = ["deployments/docker/.env", "deployments/docker/.env.storage"]
    done = subprocess.run(["git", "check-ignore", *ignored], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ignored
    assert not [path for path in context if Path(path).name.startswith(".")]


def test_the_linter_finds_nothing() -> None:
    done = subprocess.run([BIN / "hadolint", FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_is_in_the_context(context: set[str]) -> None:
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    assert copied
    assert not [name for name in copied if not any(path == name or path.startswith(f"{name}/") for path in context)]


def test_the_context_holds_what_is_deployed_and_little_else(context: set[str]) -> None:
    deployments = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]
    assert {deployment["entrypoint"].split(":")[0] for deployment in deployments} <= context
    assert {path.split("/")[0] for path in context} == {
        "constraints.txt", "pyproject.toml", "setup.py", "README.md", "LICENSE",
        "scoreinv", "storage", "tasks", "flows", "examples", "deployments",
    }  # fmt: skip
    assert sum((ROOT / path).stat().st_size for path in context) < 60e6


def test_images_have_exact_tags() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert {service["image"] for service in OURS.values()} == {f"scoreinv:{version[1]}"}
    assert re.fullmatch(r"postgres:\d+\.\d+-bookworm", SERVICES["database"]["image"])
    assert re.findall(r"^FROM (.*)$", DOCKERFILE, re.MULTILINE) == ["python:3.11.15-slim-bookworm"]


def test_what_is_installed_is_constrained() -> None:
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    assert len(installs) == 2
    assert not [line for line in installs if "--constraint constraints.txt" not in line]
    extras = re.findall(r"^(?:s3|gcs|azure) = \[\"([a-z0-9]+)", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert len(extras) == 3
    assert set(extras) <= set(pinned)


def test_ports_are_of_this_machine_alone() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"server": ["127.0.0.1:4200:4200"], "reports": ["127.0.0.1:4201:4201"]}


@each_service
def test_a_service_is_watched_or_ends(name: str) -> None:
    assert ("healthcheck" in SERVICES[name]) != (name == "deploy")


def test_dask_workers_are_as_those_of_one_machine() -> None:
    worker = SERVICES["dask-worker"]
    assert KEEP_MEMORY.items() <= worker["environment"].items()
    command = words("dask-worker")
    assert command[command.index("--resources") + 1] == f"{SLOT}=1"
    assert command[command.index("--nthreads") + 1] == worker["environment"]["OMP_NUM_THREADS"] == "1"


def test_whoever_computes_sees_the_same_folders() -> None:
    assert SERVICES["worker"]["volumes"] == SERVICES["dask-worker"]["volumes"]
    # Forms offer the relative workspace, which counts from where the worker runs.
    assert SERVICES["worker"]["volumes"][0] == "workspace:/app/workspace"
    assert "\nWORKDIR /app\n" in DOCKERFILE


@pytest.mark.parametrize("name", ["scheduler", "dask-worker"])
def test_dask_takes_the_command(name: str) -> None:
    command = {"scheduler": dask_scheduler.main, "dask-worker": dask_worker.main}[name]
    command.make_context(name, words(name)[2:])


def test_scoreinv_takes_the_command() -> None:
    assert _parser().parse_args(words("reports")[1:]).port == int(SERVICES["reports"]["ports"][0].split(":")[1])
