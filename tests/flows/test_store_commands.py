"""verify and repair, and the commands themselves, on results that are damaged in every way that was met."""

import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from flows.cli import main
from storage.shards import ShardedStore
from tests.flows.conftest import Command

INLINE = "execution.cluster.kind=inline"
IMAGES = [
    "source={kind: phantom, modality: mri, n_volumes: 2, n_slices: 2, size: 32}",
    "image={modality: mri, size: 16, pixel_mm: 16, low: 0, high: 1}",
    "shard_size=1",
]
MEASUREMENT = "simulation.measurement={kind: cartesian_mri, acceleration: 2, noise: {kind: gaussian, noise_std: 0.02}}"
ARRAYS = {"datasets": "images/c/{}/0/0", "measurements": "y/c/{}/0/0/0", "reconstructions": "sample/c/{}/0/0"}


def commands(names: dict[str, str]) -> dict[str, list[str]]:
    """The command that makes each result."""
    direct = "reconstruction.method.kind=direct"
    return {
        "datasets": ["ingest", *IMAGES],
        "measurements": ["measure", f"dataset={names.get('datasets')}", MEASUREMENT],
        "reconstructions": ["reconstruct", f"measurements={names.get('measurements')}", direct],
        "scores": ["evaluate", f"reconstructions=[{names.get('reconstructions')}]"],
        "reports": ["report", f"scores=[{names.get('scores')}]"],
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> tuple[Path, dict[str, str]]:
    """A workspace with a result of each stage, and their references."""
    workspace, names = tmp_path_factory.mktemp("made"), dict[str, str]()
    for stage in commands({}):
        with patch("builtins.print") as say, pytest.raises(SystemExit) as ended:
            main([*commands(names)[stage], INLINE, "--workspace", str(workspace)])
        assert ended.value.code == 0
        names[stage] = "/".join(say.call_args.args[0].removesuffix("/report.html").split("/")[-2:])
    return workspace, names


@pytest.fixture
def workspace(made: tuple[Path, dict[str, str]], tmp_path: Path) -> Path:
    """A copy of it, where the command looks."""
    return Path(shutil.copytree(made[0], tmp_path / "workspace"))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def swap(path: Path) -> None:
    """With the same file of the next shard."""
    other = Path(str(path).replace("/c/0/", "/c/1/"))
    mine = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(mine)


Damage = tuple[str, Callable[[Path], None]]

OF_A_STORE: dict[str, Damage] = {
    "a shard of 0 bytes": ("{array}", empty),
    "a lost shard": ("{array}", Path.unlink),
    "two swapped shards": ("{array}", swap),
    "a flipped byte": ("{array}", flip),
    "a lost marker": ("done/0.json", Path.unlink),
    "a flipped marker": ("done/1.json", flip),
    "a lost manifest": ("manifest.json", Path.unlink),
    "a flipped plan": ("plan.json", flip),
    "an empty description": ("zarr.json", empty),
    "an empty _SUCCESS": ("_SUCCESS", empty),
}
OTHERS: dict[str, tuple[str, Damage]] = {
    "images": ("datasets", ("{array}", flip)),
    "a listing": ("datasets", ("slices.json", flip)),
    "reconstructed images": ("reconstructions", ("{array}", empty)),
    "the record of a shard": ("scores", ("done/2.json", flip)),
    "the table": ("scores", ("scores.json", flip)),
    "the table for people": ("scores", ("table.md", empty)),
}
CASES = {name: ("measurements", damage) for name, damage in OF_A_STORE.items()} | OTHERS


def contents(store: Path) -> dict[str, bytes]:
    """All files but those that say when and how long."""
    if not (store / "plan.json").exists():
        return {}
    found = ShardedStore.open(str(store))
    shards = {f"{n} {s.index}": found.read(n, s.start, s.stop).tobytes() for n in found.layouts for s in found.plan()}
    tables = {name: (store / name).read_bytes() for name in ("scores.csv", "slices.json") if (store / name).exists()}
    return shards | tables


AGAIN = ("a shard of 0 bytes", "two swapped shards", "a lost marker", "a flipped plan", "the record of a shard")
"""Mended by the command that made the result too; tests/storage/test_shard_damage.py has all of them."""


@pytest.mark.parametrize(("case", "way"), [*((case, "repair") for case in CASES), *((case, "again") for case in AGAIN)])
def test_damage_is_named_and_mended(
    command: Command, made: tuple[Path, dict[str, str]], workspace: Path, case: str, way: str
) -> None:
    stage, (name, damage) = CASES[case]
    ref = made[1][stage]
    store = workspace / ref
    before = contents(store)
    damage(store / name.format(array=ARRAYS.get(stage, "").format(0)))
    code, out, _ = command("verify", ref)
    assert (code, f"{ref}: " in out, "whole" in out) == (1, True, False), out

    code, out, err = command("repair", ref, INLINE) if way == "repair" else command(*commands(made[1])[stage], INLINE)
    if way == "repair" and stage == "datasets":
        # Where the images came from is not kept.
        assert (code, "not mended: " in out, "run the ingest command again" in out) == (1, True, True), out
        code, out, err = command(*commands(made[1])[stage], INLINE)
    assert code == 0, out + err
    assert command("verify", "--all")[:2] == (0, "".join(f"{name}: whole\n" for name in made[1].values()))
    assert contents(store) == before


def test_what_is_damaged_is_not_read(command: Command, made: tuple[Path, dict[str, str]], workspace: Path) -> None:
    """It used to become NaN, and further on images and scores."""
    ref = made[1]["measurements"]
    empty(workspace / ref / "y/c/0/0/0/0")
    shutil.rmtree(workspace / made[1]["reconstructions"])
    code, _, err = command(*commands(made[1])["reconstructions"], INLINE)
    assert code == 1
    assert "its file has 0 bytes of" in err
    assert f"`scoreinv repair {ref}` makes it again" in err
    assert command("repair", ref, INLINE)[0] == 0
    assert command(*commands(made[1])["reconstructions"], INLINE)[0] == 0


def test_a_report_is_written_anew(command: Command, made: tuple[Path, dict[str, str]], workspace: Path) -> None:
    ref = made[1]["reports"]
    empty(workspace / ref / "report.html")
    assert "run the report command again" in command("verify", f"{workspace}/{ref}/report.html")[1]
    code, out, _ = command("repair", ref, INLINE)
    assert (code, "run the report command again" in out) == (1, True)
    assert command(*commands(made[1])["reports"], INLINE)[0] == 0
    assert command("verify", ref)[0] == 0


def test_what_is_no_result_is_refused(command: Command, workspace: Path) -> None:
    for words, said in (
        (["verify"], "name results, as measurements/0a1b2c3d4e5f, or say --all"),
        (["verify", "--all", "scores/x"], "name results"),
        (["verify", "image.png"], "names no result: write STAGE/DIGEST"),
        (["repair", "scores/x"], "there is no scores/x in"),
    ):
        code, out, err = command(*words)
        assert (code, said in out + err) == (1, True), out + err
