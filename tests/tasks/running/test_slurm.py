"""Workers as jobs of SLURM: the script of a job, and runs on a real SLURM where it is installed."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Security
from pydantic import ValidationError

from scoreinv.errors import MissingPackage
from tasks.running import slurm, supervision
from tasks.running.cluster import NoWorkers, SlurmWorkers, connect, kept_running
from tasks.running.shards import Execution, map_shards
from tests.tasks.running import slurm_server
from tests.tasks.work import fill, new_store, tries

ROOT = Path(__file__).parents[3]
needs_jobqueue = pytest.mark.skipif(not slurm.is_installed(), reason="dask-jobqueue is not installed")


def script(**options: object) -> list[str]:
    return slurm.job_script(SlurmWorkers.model_validate(options), "tls://10.0.0.1:8786", "one").splitlines()


@needs_jobqueue
def test_a_job_asks_for_what_the_options_say(tmp_path: Path) -> None:
    lines = script(
        queue="gpu",
        account="lab",
        cores=6,
        memory="20GiB",
        walltime="02:00:00",
        job_extra=("--exclude=node7",),
        prologue=("module load cuda", "source env"),
        environment=("SCOREINV_PROJECTORS=/local disk", "A=b=c"),
        python="/opt/bin/python",
        interface="ib0",
        folder=str(tmp_path),
    )
    asked = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    wanted = "-J one,-p gpu,-A lab,-n 1,--cpus-per-task=6,--mem=20G,-t 02:00:00,--gres=gpu:1,--exclude=node7"
    assert [one for one in asked if not one.startswith(("-e", "-o"))] == wanted.split(",")
    assert f"-o {tmp_path}/one-%J.out" in asked
    exports = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))
    assert shlex.split(exports["SCOREINV_PROJECTORS"]) == ["/local disk"]
    assert (exports["A"], exports["OMP_NUM_THREADS"]) == ("b=c", "6")
    assert "PYTHONPATH" not in exports, "another Python has modules of its own"
    assert lines[-3:-1] == ["module load cuda", "source env"]
    command = shlex.split(lines[-1])
    assert command[:5] == ["exec", "/opt/bin/python", "-m", "tasks.workers.serve", "tls://10.0.0.1:8786"]
    assert (value(command, "--name"), value(command, "--interface")) == ("one", "ib0")


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


@needs_jobqueue
def test_a_job_without_gpu_has_this_python_and_its_modules(tmp_path: Path) -> None:
    lines = script(gpus=0, folder=str(tmp_path))
    assert not [line for line in lines if "--gres" in line]
    assert lines[-1].startswith(f"exec {sys.executable} -m tasks.workers.serve ")
    (path,) = [line for line in lines if line.startswith("export PYTHONPATH=")]
    assert str(ROOT) in shlex.split(path)[1].split("=")[1].split(":")


@needs_jobqueue
def test_certificates_lie_in_files_for_their_owner_while_the_run_lasts(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    with slurm.certificate_files(Security.temporary(), str(folder)) as files:
        cluster = SlurmWorkers(folder=str(folder))
        lines = slurm.job_script(cluster, "tls://10.0.0.1:8786", "one", files).splitlines()
        (line,) = [line for line in lines if line.startswith("export DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY=")]
        key = Path(line.split("=")[1])
        assert "PRIVATE KEY" in key.read_text()
        assert key.parent.stat().st_mode & 0o077 == 0
    assert not key.exists()


@needs_jobqueue
def test_ctrl_c_means_what_it_meant() -> None:
    """Importing dask-jobqueue takes it over."""
    code = "import signal; from tasks.running.slurm import job_script, SlurmWorkers; before = signal.getsignal(2); "
    code += "job_script(SlurmWorkers(folder='/tmp'), 'tcp://a:1', 'one'); assert signal.getsignal(2) is before"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", None)
    with (
        pytest.raises(MissingPackage, match=r"pip install 'scoreinv\[slurm\]'"),
        connect(SlurmWorkers(folder=str(tmp_path))),
    ):
        pass


@pytest.mark.parametrize("wrong", [{"memory": "much"}, {"gpus": 2}, {"environment": ("A",)}, {"n_workers": 0}])
def test_nonsense_is_refused_before_anything_starts(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SlurmWorkers.model_validate(wrong)


@needs_jobqueue
def test_a_machine_without_slurm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "PAUSE_SECONDS", 0.1)
    monkeypatch.setenv("PATH", str(tmp_path))
    job, store = new_store(tmp_path)
    cluster = SlurmWorkers(folder=str(tmp_path / "logs"), interface="lo")
    with pytest.raises(NoWorkers, match="there is no command sbatch here: run where jobs of SLURM are sent from"):
        list(map_shards(fill, job, store, Execution(cluster=cluster)))


# ---- a real SLURM ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if not (slurm.is_installed() and slurm_server.is_installed()):
        pytest.skip("needs root, dask-jobqueue, and the Debian packages slurmctld, slurmd, slurm-client and munge")
    with slurm_server.slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture
def cluster(server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmWorkers:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(slurm, "ASK_SECONDS", 0.5)
    return SlurmWorkers(n_workers=2, cores=1, memory="1GiB", gpus=0, interface="lo", folder=str(tmp_path / "logs"))


def jobs() -> list[str]:
    return subprocess.check_output(["squeue", "--noheader", "--format=%i"], text=True).split()


def wait_until_no_jobs(seconds: float) -> None:
    end = time.monotonic() + seconds
    while jobs():
        assert time.monotonic() < end, jobs()
        time.sleep(0.5)


def test_jobs_do_the_shards_and_one_that_is_cancelled_is_replaced(cluster: SlurmWorkers, tmp_path: Path) -> None:
    job, store = new_store(tmp_path, n=8)
    slow = job.model_copy(update={"seconds": 1.0})
    with kept_running(cluster) as running, connect(running) as client:
        assert jobs() == [], "there is no work yet"
        events = map_shards(fill, slow, store, Execution(cluster=running))
        next(event for event in events if event.fraction == 1)
        first = jobs()
        subprocess.run(["scancel", first[0]], check=True)
        list(events)
        client.wait_for_workers(2, timeout=60)
        assert len(set(jobs()) - set(first)) == 1
    assert store.pending() == []
    assert set(tries(job)) == set(range(8))
    wait_until_no_jobs(30)
    assert [path.name for path in (tmp_path / "logs").iterdir() if path.is_dir()] == []


def test_a_job_that_cannot_start_ends_the_run_with_its_last_words(
    cluster: SlurmWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "PAUSE_SECONDS", 0.1)
    job, store = new_store(tmp_path)
    for wrong, words in (
        (
            {"prologue": ("echo no module named cuda >&2; exit 3",)},
            r"job \d+ ended .*; its last words: no module named",
        ),
        ({"queue": "nowhere"}, "invalid partition specified: nowhere"),
        ({"gpus": 1}, "Invalid generic resource"),
    ):
        broken = cluster.model_copy(update=wrong)
        with pytest.raises(NoWorkers, match=f"no worker can start as a job of SLURM, after 3 tries: .*{words}"):
            list(map_shards(fill, job, store, Execution(cluster=broken)))
    assert tries(job) == {}


CHILD = """
import sys
from tests.tasks.work import Job, dawdle
from storage.shards import ShardedStore
from tasks.running.cluster import SlurmWorkers
from tasks.running.shards import Execution, map_shards

job, cluster = Job.model_validate_json(sys.argv[1]), SlurmWorkers.model_validate_json(sys.argv[2])
store = ShardedStore.open(job.target, finished=False)
for event in map_shards(dawdle, job, store, Execution(cluster=cluster)):
    print("busy", flush=True)
"""


def test_no_job_outlives_a_run_that_was_killed(cluster: SlurmWorkers, tmp_path: Path) -> None:
    job, _ = new_store(tmp_path)
    command = [sys.executable, "-c", CHILD, job.model_dump_json(), cluster.model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    assert jobs()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until_no_jobs(slurm.DEATH_SECONDS + 30)


def test_a_job_that_waits_too_long_says_what_for(cluster: SlurmWorkers, tmp_path: Path) -> None:
    job, store = new_store(tmp_path)
    held = cluster.model_copy(update={"job_extra": ("--hold",), "patience_hours": 2 / 3600})
    with pytest.raises(NoWorkers, match=r"did not begin; SLURM said last: PENDING \(JobHeldUser\)"):
        list(map_shards(fill, job, store, Execution(cluster=held)))
    wait_until_no_jobs(10)
