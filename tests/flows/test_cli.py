"""The command: what it says, and what a user's mistake looks like."""

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from flows.cli import _failed, main
from flows.recipe_files import find_recipe
from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.operators.mri import CartesianMRI
from storage.models import shipped
from storage.shards import ShardedStore
from storage.uri import write_bytes
from tasks import addresses
from tasks.measure import measurement_store
from tasks.recipes import MeasureRecipe, Simulation
from tasks.workers.measure import MeasureJob, measure_shard
from tests.flows.conftest import Command, heed_signals
from tests.storage.dicom_files import write_series
from tests.tasks import tiny

COMMANDS = (
    "demo",
    "ingest",
    "measure",
    "train",
    "reconstruct",
    "tune",
    "calibrate",
    "evaluate",
    "report",
    "pipeline",
    "benchmark",
    "plan",
)
ROOT = Path(__file__).parents[2]


def test_help_needs_neither_torch_nor_prefect_nor_dask() -> None:
    code = (
        "import sys, flows.cli\n"
        "try: flows.cli.main(['--help'])\n"
        "except SystemExit as ended: assert not ended.code\n"
        "assert not {'torch', 'prefect', 'distributed'} & set(sys.modules), 'slow imports'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "reconstruct" in done.stdout


def test_the_version_is_the_packages_and_quick() -> None:
    code = (
        "import sys, flows.cli\n"
        "try: flows.cli.main(['--version'])\n"
        "except SystemExit as ended: assert not ended.code\n"
        "assert not {'torch', 'prefect', 'distributed', 'numpy'} & set(sys.modules), 'slow imports'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.stderr) == (f"scoreinv {version('scoreinv')}\n", "")


def test_plans_and_keys_need_no_prefect(tmp_path: Path) -> None:
    code = (
        "import sys, flows.cli\n"
        "for arguments in (['measure', '--help'], ['pipeline', 'smoke', '--dry-run']):\n"
        "    try: flows.cli.main([*arguments, '--workspace', sys.argv[1]])\n"
        "    except SystemExit as ended: assert not ended.code\n"
        "assert 'prefect' not in sys.modules, 'slow imports'\n"
    )
    place = tmp_path / "workspace"
    call = [sys.executable, "-c", code, str(place)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert not place.exists()


def test_a_command_with_nothing_to_do_says_so_without_prefect_and_without_a_write(tmp_path: Path) -> None:
    images = tiny.dataset(tmp_path, n=2)
    simulation = Simulation(measurement=CartesianMRI(acceleration=2))
    recipe = MeasureRecipe(dataset="datasets/tiny", simulation=simulation)
    place = tmp_path / addresses.of_measurements(recipe)
    store = measurement_store(recipe, images, str(place))
    for shard in store.pending():
        measure_shard(MeasureJob(dataset=images.uri, target=store.uri, simulation=simulation), shard.index, print)
    code = (
        "import sys, flows.cli\n"
        "try: flows.cli.main(sys.argv[1:])\n"
        "except SystemExit as ended: assert not ended.code\n"
        "assert 'prefect' not in sys.modules, 'slow imports'\n"
    )
    path = tmp_path / "measure.json"
    path.write_text(recipe.model_dump_json())
    call = [sys.executable, "-c", code, "measure", str(path), "--workspace", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    store.finish()
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(place)
    assert done.stderr.strip() == f"measurements/{place.name} is there already: nothing to do"
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = [sys.executable, "-m", "flows.cli", "tune", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_keys_name_every_choice_in_full(command: Command, name: str) -> None:
    code, out, _ = command(name, "--help")
    assert code == 0
    assert "…" not in out
    if name in ("measure", "pipeline"):
        assert "simulation.measurement.kind=cartesian_mri" in out
        assert "simulation.measurement.acceleration" in out
    if name in ("reconstruct", "pipeline"):
        # The default of a nested choice is the one of the field that holds it.
        assert "method.grid.sigma_max  number, > 0  [1.0]" in out
        assert "method.grid.sigma_max  number, > 0  [128.0]" in out


ORDERS = (
    ["smoke", "studies.0.simulation.seed=7", "execution.batch_size=3", "--workers", "5"],
    ["--workers", "5", "smoke", "studies.0.simulation.seed=7", "execution.batch_size=3"],
    ["smoke", "--workers", "5", "studies.0.simulation.seed=7", "--batch-size", "3"],
    ["smoke", "studies.0.simulation.seed=7", "execution.cluster.n_workers=5", "execution.batch_size=3"],
)


@pytest.mark.parametrize("order", ORDERS, ids=["changes first", "options first", "mixed", "no options"])
def test_a_plan_shows_what_was_asked_for_in_any_order(command: Command, order: list[str]) -> None:
    code, out, err = command("pipeline", *order, "--dry-run")
    assert code == 0, err
    plan = yaml.safe_load(out)
    assert plan["recipe"]["studies"][0]["simulation"]["seed"] == 7
    assert plan["execution"]["batch_size"] == 3
    assert plan["execution"]["cluster"] == {"kind": "local", "n_workers": 5, "n_threads": 1, "tls": False}


def test_a_file_may_say_how_it_is_computed_and_options_go_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    smoke = (ROOT / "deployments" / "recipes" / "smoke.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(smoke + "execution: {workspace: /there, batch_size: 3, device: cpu}\n")
    with pytest.raises(SystemExit):
        main(["pipeline", "mine.yaml", "--dry-run", "--batch-size", "5"])
    plan = yaml.safe_load(capsys.readouterr().out)
    assert "execution" not in plan["recipe"]
    assert [plan["execution"][name] for name in ("workspace", "batch_size", "device")] == ["/there", 5, "cpu"]
    # A folder whose name is a number is a folder.
    with pytest.raises(SystemExit):
        main(["pipeline", "mine.yaml", "--dry-run", "--workspace", "2024"])
    assert yaml.safe_load(capsys.readouterr().out)["execution"]["workspace"] == str(tmp_path / "2024")


def test_a_recipe_may_lie_in_a_bucket_and_its_folder_may_have_an_equals_sign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"memory://{tmp_path.name}/run=1/mine.yaml"
    write_bytes(uri, (ROOT / "deployments" / "recipes" / "smoke.yaml").read_bytes())
    with pytest.raises(SystemExit):
        main(["pipeline", uri, "title=there", "--dry-run"])
    assert yaml.safe_load(capsys.readouterr().out)["recipe"]["title"] == "there"
    with pytest.raises(SystemExit) as ended:
        main(["pipeline", f"{uri}.gone", "--dry-run"])
    assert ended.value.code == 1
    assert f"there is no file {uri}.gone" in capsys.readouterr().err


def test_words_that_mean_nothing_are_refused(command: Command) -> None:
    for words in (["smoke", "--worker-count", "5"], ["smoke", "seed=1", "--dry-run", "seed"]):
        code, _, err = command("pipeline", *words)
        assert code == 2
        assert "unrecognized arguments" in err


MISTAKES = {
    "misspelt key": (
        ["studies.0.simulation.sed=3"],
        "studies.0.simulation.sed: there is no such key, did you mean 'seed'?",
    ),
    "misspelt execution": (["execution.batch_sise=3"], "batch_sise: there is no such key, did you mean 'batch_size'?"),
    "out of range": (
        ["studies.0.ingest.image.size=-3"],
        "studies.0.ingest.image.size: Input should be greater than or equal",
    ),
    "no number there": (["studies.9.name=x"], "must be a number from 0 to 1"),
    "unknown kind": (
        ["studies.0.reconstructions.0={method: {kind: ddss}}"],
        "studies.0.reconstructions.0.method: there is no kind 'ddss', did you mean 'dds'? Choose ",
    ),
    "no kind": (["studies.0.reconstructions.0={method: {}}"], "reconstructions.0.method: kind is missing"),
    "missing key": (["studies.0.simulation={}"], "studies.0.simulation.measurement: is missing"),
    "unknown prior": (
        ["studies.0.reconstructions.0={method: {kind: dds}, prior: nothere}"],
        f"there is no prior 'nothere': shipped are {', '.join(shipped()) or 'none'}",
    ),
    "prior that is missing": (["studies.0.reconstructions.0={method: {kind: dds}}"], "method 'dds' needs a prior"),
    "samples of one image": (["studies.0.reconstructions.0.n_samples=3"], "n_samples must be 1"),
    "measurement of the other modality": (
        ["studies.0.simulation={measurement: {kind: cartesian_mri}}"],
        "study ct: measurement.kind='cartesian_mri' is for mri images, but these are ct",
    ),
    "low above high": (["studies.0.ingest.image.low=2000"], "image: low=2000.0 must be below high=1000.0"),
    "infinite": (["studies.0.ingest.image.low=-.inf"], "image.low: must be a finite number (got -inf)"),
    "too fast": (["studies.1.simulation.measurement.acceleration=33"], "acceleration=33 is more than the 32 columns"),
    "photons without air": (
        ["studies.0.simulation.measurement.noise={kind: poisson, n_photons: 1e5}", "studies.0.ingest.image.low=-500"],
        "study ct: attenuation needs CT values that are 0 in air, got ct with low=-500.0",
    ),
    "two studies of one name": (["studies.0.name=mri"], "studies need different names"),
}


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_recipe_is_one_message_before_anything_starts(
    command: Command, tmp_path: Path, changes: list[str], message: str
) -> None:
    code, out, err = command("pipeline", "smoke", *changes)
    # The recipe may be right where the prior is only missing here.
    assert code == (1 if "there is no prior" in message else 2)
    assert message in err
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "workspace").exists()


def test_a_training_that_cannot_fit_its_study_is_refused_before_it_starts(command: Command) -> None:
    for change, message in (
        ("train.network.patch=3", "the size of images and of crops must be a multiple of 24, got 128"),
        ("train.objective.crop=60", "the size of images and of crops must be a multiple of 8, got 60"),
        ("train.band=60", "a side of 60 pixels of 7.46667 mm but the data have 128 of 3.5 mm"),
        ("train.band=128", "band=128 must be less than the 128 pixels"),
        ("train.objective.crop=160", "objective.crop=160 is more than the 128 pixels"),
        ("ingest.1.image.size=64", "training.ingest.1.image.size=64 but training.ingest.0.image.size=128"),
        ("ingest.0.image.pixel_mm=2", "of 2 mm but the data have 128 of 3.5 mm"),
    ):
        code, _, err = command("pipeline", "prior-ct-128", f"studies.0.training.{change}", "--dry-run")
        assert code == 2
        assert message in err
        assert err.count("\n") == 1


def test_a_fault_of_the_program_shows_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for work, code, is_fault in (
        (lambda: torch.zeros(2, 3) @ torch.zeros(2, 3), 1, True),
        (lambda: Path("/nowhere/x.nii").read_bytes(), 1, False),
        (lambda: find_recipe("nothere"), 2, False),
    ):
        with pytest.raises((RuntimeError, OSError, UserError)) as caught:
            work()
        assert _failed(caught.value) == code
        said = capsys.readouterr().err
        assert ("Traceback" in said, "torch.zeros(2, 3) @ torch.zeros(2, 3)" in said) == (is_fault, is_fault)
        assert said.splitlines()[-1].startswith("error: ")
        assert is_fault or said.count("\n") == 1


def test_an_unknown_recipe_lists_those_that_ship(command: Command) -> None:
    code, _, err = command("pipeline", "smokey")
    assert code == 2
    assert "there is no recipe 'smokey'" in err
    assert "smoke" in err.split("one of", 1)[1]


def test_a_file_that_is_no_recipe_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("- just\n- a list\n")
    assert "mine.yaml must hold a mapping" in command("pipeline", "mine.yaml")[2]
    (tmp_path / "mine.yaml").write_text("title: [\n")
    assert "mine.yaml, line 2 is not YAML: " in command("pipeline", "mine.yaml")[2]
    (tmp_path / "mine.yaml").write_text("execution: 3\n")
    assert "mine.yaml: execution must hold a mapping of keys to values, got 3" in command("pipeline", "mine.yaml")[2]
    (tmp_path / "mine.yaml").write_text("execution: {batch_sise: 3}\n")
    assert "mine.yaml, execution: batch_sise: there is no such key" in command("pipeline", "mine.yaml")[2]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (tiny.MRI.model_copy(update={"modality": "ct", "low": -1000, "high": 1000}), "trained for modality=ct but"),
        (tiny.MRI.model_copy(update={"size": 64}), "a side of 64 pixels of 16 mm but the data have 32 of 8 mm"),
        (
            tiny.MRI.model_copy(update={"size": 32, "pixel_mm": 1.0}),
            "a side of 32 pixels of 1 mm but the data have 32 of 8 mm",
        ),
    ],
    ids=["modality", "size", "pixel size"],
)
def test_a_prior_of_other_images_is_refused(
    command: Command, tmp_path: Path, image: ImageContract, message: str
) -> None:
    prior = tiny.prior(tmp_path / "prior", image=image)
    change = f"studies.1.reconstructions.0={{method: {{kind: dds}}, prior: {prior}}}"
    code, _, err = command("pipeline", "smoke", change)
    assert code == 2
    assert message in err


UNUSABLE = {
    "a file": ("file", "the workspace, {}, is a file: give a folder"),
    "below a file": ("file/workspace", "the workspace, {}, cannot be used (Not a directory)"),
    "not to be written": ("/proc/scoreinv", "the workspace, {}, cannot be used (No such file or directory)"),
    "no name": ("na\udce9ve", "holds bytes that are not UTF-8"),
}


@pytest.mark.parametrize(("name", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_workspace_that_cannot_be_used_is_one_message_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SystemExit) as ended:
        main(["pipeline", "smoke", "--workspace", name])
    said = capsys.readouterr()
    assert ended.value.code == (2 if name.startswith("na") else 1)  # a name is a part of the recipe
    assert message.format(tmp_path / name) in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "so worker processes do not see it: use cluster.kind=inline"),
        (["execution.cluster={kind: remote, address: 'tcp://10.0.0.1:1'}"], "use cluster.kind=inline"),
    ],
)
def test_worker_processes_are_refused_a_workspace_in_memory(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pipeline", "smoke", "--workspace", "memory://here", *arguments])
    said = capsys.readouterr()
    assert (ended.value.code, message in said.err, said.err.count("\n")) == (2, True, 1)


# ---- with a server -------------------------------------------------------------------------------------------


CT = "image={modality: ct, size: 16, pixel_mm: 0.5, low: -1000, high: 1000}"
INLINE = "execution.cluster.kind=inline"


@pytest.mark.usefixtures("prefect_server")
def test_a_folder_without_images_is_one_message(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = command("ingest", "source={kind: dicom, path: empty}", CT, INLINE)
    assert code == 1
    assert err.strip().splitlines()[-1].startswith("error: there is no DICOM file in empty")
    assert "Traceback" not in err

    code, _, err = command("ingest", "source={kind: dicom, path: nowhere}", CT, INLINE)
    assert code == 1
    assert err.strip().splitlines()[-1] == "error: nowhere does not exist: give an existing folder or file"


@pytest.mark.usefixtures("prefect_server")
def test_a_truncated_file_among_good_ones_is_left_out_and_said(
    command: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from storage.datasets import DatasetStore
    from storage.identities import Hasher

    files = write_series(tmp_path / "scans", [0, 1, 2, 3])
    files[2].write_bytes(files[2].read_bytes()[:-100])
    code, out, err = command("ingest", "source={kind: dicom, path: scans}", CT, INLINE)
    assert code == 0, err
    store = DatasetStore.open(out.strip().splitlines()[-1])
    assert len(store) == 3
    (bad,) = store.shards.manifest()["rejected"]
    code = Hasher(str(tmp_path / "workspace"))
    assert bad == {"file": code("0002.dcm"), "reason": "truncated"}
    assert f"left out {code('0002.dcm')}: truncated" in caplog.text
    # Its own name stands where only its owner reads it.
    names = Path(store.uri) / "names.json"
    assert f"with the reasons in full: {names}" in caplog.text
    assert "0002.dcm" in names.read_text()


@pytest.mark.usefixtures("prefect_server")
def test_a_missing_reference_lists_what_is_there(command: Command) -> None:
    code, _, err = command("measure", "dataset=measurements/abc", "simulation.measurement.kind=cartesian_mri")
    assert (code, "write datasets/<digest>" in err) == (1, True)


def start_long_command(folder: Path) -> "subprocess.Popen[str]":
    """A command that works for minutes, with a temporary server and a real worker; its temporary files in ``tmp``."""
    source = "source={kind: phantom, n_volumes: 20, n_slices: 20}"
    image = "image={modality: ct, size: 64, pixel_mm: 5, low: -1000, high: 1000}"
    (folder / "tmp").mkdir()
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp"), "PREFECT_HOME": str(folder / "prefect")}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "ingest", source, image, "shard_size=1", "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
        start_new_session=True,
        preexec_fn=heed_signals,
    )


@pytest.mark.parametrize(("way", "code"), [("Ctrl-C", 130), ("kill", 143), ("closed terminal", 129)])
def test_a_signal_stops_everything_keeps_what_is_done_and_says_so(tmp_path: Path, way: str, code: int) -> None:
    """A terminal sends its signals to the whole group, and a shell says again that the terminal is closed."""
    process = start_long_command(tmp_path)
    try:
        wait_for_files(tmp_path, "workspace/datasets/*/done/*.json", process)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        if way == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        elif way == "kill":
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGHUP)
            time.sleep(0.5)
            process.send_signal(signal.SIGHUP)
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, said
    assert said.strip().splitlines()[-1] == "stopped; what is done is kept, the same command resumes"
    assert "Traceback" not in said
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert list((tmp_path / "tmp").iterdir()) == []
    (folder,) = (tmp_path / "workspace" / "datasets").iterdir()
    store = ShardedStore.open(str(folder), finished=False)
    assert 0 < len(store.pending()) < 400
    assert store.verify() == []


def test_a_command_that_is_killed_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    process = start_long_command(tmp_path)
    try:
        wait_for_files(tmp_path, "workspace/datasets/*/done/*.json", process)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
    finally:
        process.kill()
        process.communicate()
    _, alive = psutil.wait_procs(family, timeout=30)
    for one in alive:
        one.kill()
    assert alive == []
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(("handler", "answer"), [("SIG_DFL", "129"), ("SIG_IGN", "7")])
def test_a_closed_terminal_stops_a_command_unless_nohup_says_otherwise(handler: str, answer: str) -> None:
    code = (
        "import argparse, os, signal, flows.cli\n"
        f"signal.signal(signal.SIGHUP, signal.{handler})\n"
        "command = argparse.Namespace(run=lambda _: os.kill(os.getpid(), signal.SIGHUP) or 7)\n"
        "print(flows.cli._run(command))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == f"{answer}\n", done.stderr


def wait_for_files(folder: Path, pattern: str, process: "subprocess.Popen[str]") -> None:
    """Until there is one, or the process has ended."""
    deadline = time.monotonic() + 400
    while not list(folder.glob(pattern)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
