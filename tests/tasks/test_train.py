"""A training under torchrun: it publishes, resumes bit for bit, and never outlives the process that started it."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from prefect.logging import disable_run_logger

from scoreinv.errors import UserError
from scoreinv.training.augment import Augmentation
from scoreinv.training.loop import TrainStep
from storage.errors import StoreHeld
from storage.lease import leased, take
from storage.models import load
from storage.sources.phantom import PhantomSource
from storage.uri import join
from storage.verify import problems_of
from tasks.running.processes import PARENT
from tasks.running.shards import Execution
from tasks.running.torchrun import GRACE_SECONDS, torchrun
from tasks.train import in_turn, progress_of
from tasks.trained import is_trained
from tasks.workers.priors import load_prior
from tasks.workers.training import train as worker
from tasks.workers.training.curve import CurveRow, add_row, read_curve
from tasks.workers.training.launch import fault_path, leave_reason, reason_path
from tasks.workers.training.train import PROGRESS_SECONDS
from tests.tasks.trainings import RECIPE, SIZE, ingested, job_for, longer, run_here

FOREVER = 10_000_000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four phantoms of 6 slices."""
    return ingested(
        str(tmp_path_factory.mktemp("data") / "phantoms"), PhantomSource(n_slices=6, size=32, pixel_mm=10.0)
    )


def children_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process], seconds: float) -> None:
    """All of the processes end within the time."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    left = [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    for one in left:
        one.kill()
    assert left == []


def until(lines: Iterator[str], text: str) -> str:
    """The first line that holds the text."""
    seen = []
    for line in lines:
        seen.append(line)
        if text in line:
            return line
    raise AssertionError(f"no line with {text!r} in:\n" + "\n".join(seen))


@pytest.fixture(scope="module")
def two_processes(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder and the lines of a training of two processes from beginning to end."""
    target = tmp_path_factory.mktemp("two") / "prior"
    return target, list(torchrun(job_for(dataset, target), 2))


@pytest.fixture(scope="module")
def one_process(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same training, unbroken in one process."""
    folder = tmp_path_factory.mktemp("one")
    run_here(job_for(dataset, folder / "prior"), folder)
    return folder / "prior"


def test_two_processes_publish_a_prior_that_can_be_used(two_processes: tuple[Path, list[str]]) -> None:
    uri = str(two_processes[0] / "prior")
    _, contract = load(uri)
    assert (contract.name, contract.images_seen, contract.image.size) == ("tiny", 160, SIZE)
    assert contract.training_data == ["Phantoms (public domain)"]
    model, _ = load_prior(uri, "cpu", "float32")
    clean = torch.full((2, 1, SIZE, SIZE), 0.3)
    noisy = clean + 5.0 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    denoised = model(noisy, torch.tensor([5.0, 5.0]))
    assert float((denoised - clean).std()) < 0.2 * float((noisy - clean).std())


def test_every_validation_leaves_a_row_and_a_line(two_processes: tuple[Path, list[str]]) -> None:
    target, lines = two_processes
    rows = read_curve(str(target))
    assert [row.images_seen for row in rows] == [48, 96, 144, 160]
    assert [progress_of(line) for line in lines if "validation rmse" in line] == [30.0, 60.0, 90.0, 100.0]
    assert {len(row.validation_rmse) for row in rows} == {len(rows[0].sigmas)}
    # The error at large noise starts at about that of an answer by the mean, and falls.
    assert rows[-1].validation_rmse[-2] < rows[0].validation_rmse[-2]


def test_a_card_and_pictures_lie_beside_the_contract(two_processes: tuple[Path, list[str]]) -> None:
    prior = two_processes[0] / "prior"
    card = (prior / "card.md").read_text()
    for text in (
        "# tiny",
        "16 x 16 pixels of 20 mm",
        "160 images seen, drawn from 18 different",
        "Phantoms (public domain)",
    ):
        assert text in card
    for text in ("CC0", "| noise level | after 48 images | after 160 images |", "Not for diagnosis"):
        assert text in card
    for name in ("curve.png", "samples.png"):
        assert (prior / name).read_bytes().startswith(b"\x89PNG")
    assert is_trained(str(two_processes[0]), RECIPE)
    assert not is_trained(str(two_processes[0]), longer(RECIPE, 161))
    assert not is_trained(str(two_processes[0]), RECIPE.model_copy(update={"licence": "CC-BY-4.0"}))


def test_the_weights_of_the_last_two_publications_are_kept(two_processes: tuple[Path, list[str]]) -> None:
    assert len(list((two_processes[0] / "prior").glob("*.safetensors"))) == 2


def test_a_killed_training_resumes_and_ends_as_an_unbroken_one(
    dataset: str, one_process: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_for(dataset, tmp_path / "prior", n_images=FOREVER)
    lines = torchrun(job, 1)
    until(lines, "images 48 of")
    (trainer,) = [one for one in children_of(psutil.Process().pid) if "trainer" in one.cmdline()]
    trainer.kill()
    with pytest.raises(ChildProcessError, match="the training ended with exit code 1"):
        list(lines)
    # What a training that was killed between a row and its checkpoint leaves behind.
    resumed_at = read_curve(job.target)[-1].images_seen
    assert resumed_at < 160
    assert not (tmp_path / "prior" / "checkpoint.pt").exists()
    add_row(job.target, CurveRow(images_seen=159, loss=0.0, learning_rate=0.0, seconds=0.0, sigmas=()))
    run_here(job_for(dataset, tmp_path / "prior"), tmp_path)
    assert f"resumed after {resumed_at} images" in capsys.readouterr().out
    assert (tmp_path / "prior" / "checkpoint.pt").read_bytes() == (one_process / "checkpoint.pt").read_bytes()
    assert load(join(job.target, "prior"))[0] == load(str(one_process / "prior"))[0]
    assert [row.images_seen for row in read_curve(job.target)][-1] == 160
    assert 159 not in [row.images_seen for row in read_curve(job.target)]


def test_a_training_stopped_between_validations_goes_on_from_its_last_minutes(
    dataset: str, one_process: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "CHECKPOINT_SECONDS", 0.0)
    job = job_for(dataset, tmp_path / "prior")

    def stop(steps: Iterator[TrainStep], *args: object) -> Iterator[TrainStep]:
        for step in steps:
            yield step
            if step.images_seen == 72:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worker, "_with_progress", stop)
        with pytest.raises(KeyboardInterrupt):
            run_here(job, tmp_path)
    run_here(job, tmp_path)
    assert "resumed after 72 images" in capsys.readouterr().out
    assert [row.images_seen for row in read_curve(job.target)] == [48, 96, 144, 160]
    assert load(join(job.target, "prior"))[0] == load(str(one_process / "prior"))[0]


def test_a_training_that_was_killed_before_its_last_publication_publishes(dataset: str, one_process: Path) -> None:
    (one_process / "prior" / "contract.json").unlink()
    (one_process / "prior" / "samples.png").unlink()
    run_here(job_for(dataset, one_process), one_process.parent)
    assert load(str(one_process / "prior"))[1].images_seen == 160
    assert (one_process / "prior" / "samples.png").exists()


def test_a_second_training_of_a_prior_is_refused_by_name(dataset: str, tmp_path: Path) -> None:
    """They would replace each other's checkpoints."""
    job = job_for(dataset, tmp_path / "prior")
    with leased(job.trunk), pytest.raises(StoreHeld, match=f"process {os.getpid()} on .* works on {job.trunk}"):
        run_here(job, tmp_path)
    assert not (tmp_path / "prior" / "checkpoint.pt").exists()


def test_a_second_command_follows_a_training_and_takes_what_it_made(
    dataset: str, one_process: Path, tmp_path: Path
) -> None:
    job, runs = job_for(dataset, tmp_path / "prior", n_images=160), list[int]()
    with disable_run_logger():
        with leased(job.trunk), pytest.raises(StoreHeld, match=f"process {os.getpid()} on"):
            in_turn(job, Execution(when_busy="fail"), lambda: runs.append(1))
        with leaving(job.trunk, 1.0):
            shutil.copytree(one_process, job.target)
            in_turn(job, Execution(), lambda: runs.append(1))
    assert runs == []


def test_a_command_that_came_a_moment_too_late_follows_and_goes_on(dataset: str, tmp_path: Path) -> None:
    job, runs = job_for(dataset, tmp_path / "prior"), list[int]()

    def run() -> None:
        runs.append(1)
        if len(runs) == 1:
            left.enter_context(leaving(job.trunk, 0.5))
            run_here(job, tmp_path)

    with ExitStack() as left, disable_run_logger():
        in_turn(job, Execution(), run)
    assert runs == [1, 1]
    with pytest.raises(UserError, match="no GPU"):
        in_turn(job, Execution(), fail)


@contextmanager
def leaving(uri: str, seconds: float) -> Iterator[None]:
    """A block in which another holds a lease, and leaves it after a while."""
    lease = take(uri)
    assert lease is not None
    lease.__enter__()
    timer = threading.Timer(seconds, lease.__exit__)
    timer.start()
    yield
    timer.join()


def fail() -> None:
    raise UserError("there is no GPU")


@pytest.mark.parametrize("damage", ["weights", "contract", "checkpoint", "everything"])
def test_a_damaged_training_is_seen_and_made_again(
    dataset: str, one_process: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load(str(one_process / "prior"))
    target = Path(shutil.copytree(one_process, tmp_path / "prior"))
    (weights,) = (target / "prior").glob(f"{whole[1].sha256}.safetensors")
    files = {"weights": weights, "contract": target / "prior" / "contract.json", "checkpoint": target / "checkpoint.pt"}
    for path in files.values() if damage == "everything" else [files[damage]]:
        path.write_bytes(path.read_bytes()[:-100])
    problems = problems_of("priors", str(target))
    assert len([one for one in problems if "recipe.json" not in one]) == (2 if damage == "everything" else 1)
    job = job_for(dataset, target, n_images=160)
    assert is_trained(str(target), job.recipe) == (damage == "checkpoint")
    run_here(job, tmp_path)
    assert ("is damaged: what it held is made again" in capsys.readouterr().out) == (
        damage in ("checkpoint", "everything")
    )
    assert load(str(target / "prior")) == whole
    assert [one for one in problems_of("priors", str(target)) if "recipe.json" not in one] == []


def test_a_longer_training_goes_on_from_a_shorter_one_and_leaves_it_as_it_is(
    dataset: str, one_process: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PROGRESS_SECONDS", 0.0)
    target = one_process.parent / "longer"
    run_here(job_for(dataset, target, n_images=200), one_process.parent)
    printed = capsys.readouterr().out
    assert "resumed after 160 images" in printed
    assert re.search(r"^images 168 of 200, \d+\.\d images/s, about 0:00:\d\d left$", printed, re.MULTILINE)
    assert load(str(target / "prior"))[1].images_seen == 200
    assert [row.images_seen for row in read_curve(str(target))] == [48, 96, 144, 160, 192, 200]
    assert load(str(one_process / "prior"))[1].images_seen == 160
    assert [row.images_seen for row in read_curve(str(one_process))] == [48, 96, 144, 160]


def test_a_shorter_training_does_not_take_what_a_longer_one_has_learned(
    dataset: str, one_process: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(job_for(dataset, tmp_path / "long", n_images=200), tmp_path)
    trunk = (tmp_path / "trunk" / "checkpoint.pt").read_bytes()
    run_here(job_for(dataset, tmp_path / "short"), tmp_path)
    assert "a longer training is past where this one parts from it: beginning anew" in capsys.readouterr().out
    assert load(str(tmp_path / "short" / "prior"))[0] == load(str(one_process / "prior"))[0]
    assert (tmp_path / "trunk" / "checkpoint.pt").read_bytes() == trunk


def test_a_cooldown_can_be_moved_as_long_as_it_has_not_begun(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that has begun stays with its prior: another length goes on from the last checkpoint before it."""
    calm, moved = tmp_path / "calm", tmp_path / "moved"
    calm.mkdir()
    run_here(job_for(dataset, calm / "prior", n_images=160, cooldown_images=40), calm)
    run_here(job_for(dataset, moved / "first", n_images=120, cooldown_images=60), tmp_path)
    capsys.readouterr()
    run_here(job_for(dataset, moved / "second", n_images=160, cooldown_images=40), tmp_path)
    assert "resumed after 48 images" in capsys.readouterr().out
    weights = [load(str(folder / "prior"))[0] for folder in (calm / "prior", moved / "second", moved / "first")]
    assert weights[0] == weights[1] != weights[2]
    rates = [row.learning_rate for row in read_curve(str(moved / "second"))]
    assert rates[:2] == [2e-3, 2e-3]
    assert rates[-1] == pytest.approx(2e-3 * 8 / 40)


def test_new_texts_cost_no_training(dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_here(job_for(dataset, tmp_path / "prior", n_images=48, cooldown_images=16), tmp_path)
    weights, before = load(str(tmp_path / "prior" / "prior"))
    capsys.readouterr()
    corrected = job_for(dataset, tmp_path / "prior", n_images=48, cooldown_images=16, licence="CC-BY-4.0")
    run_here(corrected, tmp_path)
    assert "resumed after 48 images" in capsys.readouterr().out
    again, contract = load(str(tmp_path / "prior" / "prior"))
    assert (again, contract) == (weights, before.model_copy(update={"licence": "CC-BY-4.0"}))
    assert "CC-BY-4.0" in (tmp_path / "prior" / "prior" / "card.md").read_text()
    assert is_trained(str(tmp_path / "prior"), corrected.recipe)


def test_the_address_holds_what_decides_the_weights_and_nothing_else() -> None:
    def address(training: dict[str, Any] | None = None, sha256: str = "", **changes: Any) -> str:
        spec = RECIPE.training.model_copy(update=training or {})
        return RECIPE.model_copy(update={"training": spec, **changes}).address(sha256)

    base = address()
    cooldown = {"cooldown_images": 40}
    others = [
        address({"n_images": 320}),
        address(cooldown),
        address(cooldown | {"n_images": 320}),
        address({"seed": 1}),
        address(sha256="a" * 64),
        address(sha256="b" * 64),
        address(datasets=("datasets/others",)),
        address(shares=(1.0,)),
        address(balance_power=1.0),
        address(validation_subjects=()),
        address(augmentation=Augmentation(gain=0.1)),
    ]
    assert len({base, *others}) == 1 + len(others)
    texts = {"name": "other", "licence": "CC-BY-4.0", "training_data": ("Others",), "validate_every": 7}
    assert address(**texts) == base
    assert address(initial="ct-128", sha256="a" * 64) == address(initial="priors/x", sha256="a" * 64)


def test_trainings_of_all_lengths_share_a_trunk() -> None:
    def trunk(**training: Any) -> str:
        return RECIPE.model_copy(update={"training": RECIPE.training.model_copy(update=training)}).trunk("a" * 64)

    assert trunk() == trunk(n_images=320) == trunk(n_images=320, cooldown_images=100)
    assert trunk() != trunk(decay_images=100)
    assert trunk() != RECIPE.trunk("b" * 64)


@pytest.mark.parametrize(("n_images", "cooldown_images"), [(160, 0), (160, 40), (157, 0), (157, 41), (16, 100)])
def test_a_training_parts_from_the_others_where_its_rates_do(n_images: int, cooldown_images: int) -> None:
    spec = RECIPE.training.model_copy(update={"n_images": n_images, "cooldown_images": cooldown_images})
    others = RECIPE.training.model_copy(update={"n_images": FOREVER})
    is_alike, seen = True, 0
    assert spec.has_parted(0) is (cooldown_images > n_images)
    while seen < n_images:
        is_alike = is_alike and spec.rate(seen) == others.rate(seen)
        seen += spec.batch_size
        assert spec.has_parted(seen) is not is_alike
    assert spec.has_parted(seen + spec.batch_size)


def test_closing_the_lines_ends_every_process(dataset: str, tmp_path: Path) -> None:
    lines = torchrun(job_for(dataset, tmp_path / "prior", n_images=FOREVER), 2)
    until(lines, "images 48 of")
    started = [one for one in children_of(psutil.Process().pid) if "tasks.workers.training.launch" in one.cmdline()]
    assert len(started) == 3
    before = time.monotonic()
    lines.close()
    assert time.monotonic() - before < GRACE_SECONDS + 5
    assert_gone(started, 5)


LAUNCHER = """
import sys
from tasks.running.shards import Execution
from tasks.running.torchrun import torchrun
from tasks.workers.training.train_job import TrainJob
for line in torchrun(TrainJob.model_validate_json(sys.argv[1]), 2):
    print(line, flush=True)
"""


def test_a_launcher_that_is_killed_leaves_no_trainer_behind(dataset: str, tmp_path: Path) -> None:
    # Without validations: a trainer that prints would end by itself when nobody reads.
    job = job_for(dataset, tmp_path / "prior", n_images=FOREVER, validate_every=FOREVER)
    command = [sys.executable, "-c", LAUNCHER, job.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        until(iter(launcher.stdout), "training ")
        started = children_of(launcher.pid)
        assert len(started) == 3
        launcher.kill()
        assert_gone(started, PROGRESS_SECONDS - 10)


def test_a_process_whose_starter_is_gone_ends_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tasks.workers.training.launch", "group", str(tmp_path / "job.json"), "1"]
    ended = subprocess.run(
        command, env={**os.environ, PARENT: "1"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, "the process that started this one is gone\n")


def test_a_failure_shows_the_error_and_nothing_else(dataset: str, tmp_path: Path) -> None:
    everyone = tuple(f"phantom-{i}" for i in range(4))
    with pytest.raises(UserError) as failure:
        list(torchrun(job_for(dataset, tmp_path / "prior", validation_subjects=everyone), 2))
    expected = "the training failed: validation_subjects holds every subject: nothing is left to train on"
    assert str(failure.value) == expected


def test_the_first_reason_is_kept(tmp_path: Path) -> None:
    job = str(tmp_path / "job.json")
    leave_reason(job, UserError("the cause"))
    leave_reason(job, RuntimeError("connection closed by peer"))
    assert reason_path(job).read_text() == "the cause"
    assert not fault_path(job).exists()

    leave_reason(tmp_path / "other.json", RuntimeError("mat1 and mat2"))
    leave_reason(tmp_path / "other.json", UserError("a consequence"))
    assert fault_path(tmp_path / "other.json").read_text().endswith("RuntimeError: mat1 and mat2\n")
    assert not reason_path(tmp_path / "other.json").exists()


def test_two_processes_share_a_file_that_is_gone_in_the_end_and_train_as_from_memory(
    dataset: str, two_processes: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, temporary = tmp_path / "cache", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    job = job_for(dataset, tmp_path / "prior", launch={"memory_gib": 0, "cache": str(cache)})
    list(torchrun(job, 2))
    assert list(temporary.glob("torchelastic*")) == []
    assert load(join(job.target, "prior"))[0] == load(str(two_processes[0] / "prior"))[0]
    assert list(cache.glob("*.images")) == []
    assert cache.exists()


def test_a_trainer_that_is_done_ends_whatever_its_interpreter_would_do_at_exit(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There threads of gloo have aborted one in some hundred."""
    abort = "import atexit, os\nif 'RANK' in os.environ:\n    atexit.register(os.abort)\n"
    (tmp_path / "sitecustomize.py").write_text(abort)
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = list(torchrun(job_for(dataset, tmp_path / "prior", n_images=8), 2))
    assert lines[-1].startswith("images 8 of 8")


def test_parts_of_a_batch_train_as_the_whole(dataset: str, one_process: Path, tmp_path: Path) -> None:
    job = job_for(dataset, tmp_path / "prior", launch={"n_at_once": 3})
    run_here(job, tmp_path)
    errors = [read_curve(str(folder))[-1].validation_rmse for folder in (tmp_path / "prior", one_process)]
    assert errors[0] == pytest.approx(errors[1], rel=0.02)


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_training_whose_time_is_up_publishes_and_goes_on_later(
    dataset: str, one_process: Path, two_processes: tuple[Path, list[str]], tmp_path: Path, n_processes: int
) -> None:
    short = job_for(dataset, tmp_path / "prior", launch={"max_minutes": 1e-6})
    lines = list(torchrun(short, n_processes))
    assert lines[-1] == "1e-06 minutes are up: the same command goes on from here"
    (row,) = read_curve(short.target)
    assert row.images_seen == 8
    assert load(join(short.target, "prior"))[1].images_seen == 8
    assert not is_trained(short.target, RECIPE)
    lines = list(torchrun(job_for(dataset, tmp_path / "prior"), n_processes))
    assert "resumed after 8 images" in lines
    unbroken = one_process if n_processes == 1 else two_processes[0]
    assert load(join(short.target, "prior"))[0] == load(str(unbroken / "prior"))[0]


def test_a_network_is_compiled_if_the_execution_wants_it(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a compiler: that a compiled network gives the images of another is tested elsewhere."""
    compiled = []
    monkeypatch.setattr(worker, "require_compiler", lambda device: compiled.append(device.type))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    run_here(job_for(dataset, tmp_path / "prior", n_images=8, launch={"is_compiled": True}), tmp_path)
    assert compiled == ["cpu", "UNetNetwork"]


def test_progress_is_read_from_its_lines_alone() -> None:
    assert progress_of("images 1200 of 4800, 5.3 images/s, about 0:11:19 left") == 25.0
    assert progress_of("images 160 of 150, loss 0.3") == 100.0
    assert progress_of("resumed after 48 images") is None
    assert progress_of("W0101 images 3 of 4") is None
