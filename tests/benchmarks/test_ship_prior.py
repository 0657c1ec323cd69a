"""A trained prior put among those that ship: what lies there is whole, half as large, and denoises as before."""

import sys
from pathlib import Path

import pytest

from benchmarks import ship_prior
from scoreinv.contract import parse_contract
from storage.models import load
from storage.sources.phantom import PhantomSource
from tests.tasks.trainings import ingested, job_for, run_here


def test_what_ships_is_whole_and_denoises_as_the_trained_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = ingested(str(tmp_path / "data"), PhantomSource(n_slices=3, size=32, pixel_mm=10.0))
    run_here(job_for(dataset, tmp_path / "prior", n_images=48), tmp_path)
    for folder in ("scoreinv/priors", "docs/priors"):
        (tmp_path / folder).mkdir(parents=True)
    words = ["ship_prior", str(tmp_path / "prior"), "small-16", "--root", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    ship_prior.main()
    shipped = tmp_path / "scoreinv" / "priors"
    contract = parse_contract((shipped / "small-16.json").read_bytes())
    weights = (shipped / "small-16.safetensors").read_bytes()
    contract.require_weights(weights, "small-16")
    trained, before = load(str(tmp_path / "prior" / "prior"))
    assert (contract.name, contract.images_seen) == ("small-16", before.images_seen)
    assert len(weights) < 0.7 * len(trained)
    assert (shipped / "small-16.md").read_text() == (tmp_path / "prior" / "prior" / "card.md").read_text()
    assert {path.name for path in (tmp_path / "docs" / "priors").iterdir()} == {
        "small-16-curve.png",
        "small-16-samples.png",
    }
    shares = [float(line.split()[-5]) for line in capsys.readouterr().out.splitlines() if "moves images by" in line]
    assert len(shares) == len(ship_prior.LEVELS)
    assert 0 < max(shares) < 5, "per cent of the error"
