"""Published priors."""

import hashlib
from pathlib import Path

import pytest

from scoreinv import shipped as package
from scoreinv.contract import ImageContract, PriorContract
from storage import models
from storage.errors import StoreError, StoreMismatch, StoreNotFound
from storage.models import load, publish, remove_all_but, shipped
from storage.uri import delete, join, list_names, write_bytes


def contract(weights: bytes, name: str = "tiny") -> PriorContract:
    return PriorContract(
        name=name,
        image=ImageContract(modality="ct", size=16, pixel_mm=4.0, low=-1000, high=1000),
        network={},
        preconditioning={},
        sigma_min=0.01,
        sigma_max=50,
        training_data=["phantoms"],
        licence="CC0",
        images_seen=10,
        sha256=hashlib.sha256(weights).hexdigest(),
    )


@pytest.fixture(params=["local", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "prior") if request.param == "local" else f"memory://{tmp_path.name}/prior"


def test_round_trip_and_replacement(uri: str) -> None:
    for weights in (b"first weights", b"second weights"):
        publish(uri, weights, contract(weights))
        assert load(uri) == (weights, contract(weights))


def test_who_names_the_weights_gets_these_as_long_as_they_are_there(uri: str) -> None:
    old, new = contract(b"old", name="before"), contract(b"new", name="after")
    publish(uri, b"old", old)
    assert load(uri, sha256=old.sha256) == (b"old", old)
    publish(uri, b"new", new)
    assert load(uri) == load(uri, sha256=new.sha256) == (b"new", new)
    assert load(uri, sha256=old.sha256) == (b"old", old)
    remove_all_but(uri, {new.sha256})
    assert list_names(uri) == sorted(["contract.json", f"{new.sha256}.json", f"{new.sha256}.safetensors"])
    with pytest.raises(StoreMismatch, match=f"was published anew since this run began .*{old.sha256[:12]} are gone"):
        load(uri, sha256=old.sha256)


def test_weights_that_were_published_again_are_the_same_prior(uri: str) -> None:
    publish(uri, b"weights", contract(b"weights", name="before"))
    corrected = contract(b"weights", name="after")
    publish(uri, b"weights", corrected)
    assert load(uri, sha256=corrected.sha256) == (b"weights", corrected)


def test_a_shipped_prior_has_no_other_weights() -> None:
    with pytest.raises(StoreMismatch, match="mri-128 was published anew"):
        load("mri-128", sha256="0" * 64)


def test_replacement_that_is_interrupted_leaves_the_old_prior(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(uri, b"old", contract(b"old"))
    real = write_bytes

    def crash_at_contract(target: str, content: bytes) -> None:
        if target.endswith(".json"):
            raise KeyboardInterrupt
        real(target, content)

    with monkeypatch.context() as patch:
        patch.setattr(models, "write_bytes", crash_at_contract)
        with pytest.raises(KeyboardInterrupt):
            publish(uri, b"new", contract(b"new"))
    assert load(uri)[0] == b"old"


def test_weights_must_be_the_contracts(uri: str) -> None:
    with pytest.raises(StoreMismatch, match="'tiny'"):
        publish(uri, b"weights", contract(b"other"))
    assert list_names(uri) == []


def test_damaged_weights_are_refused(uri: str) -> None:
    publish(uri, b"weights", contract(b"weights"))
    name = next(name for name in list_names(uri) if name.endswith(".safetensors"))
    write_bytes(join(uri, name), b"weightz")
    with pytest.raises(StoreMismatch, match=r"is damaged.*fetch it again"):
        load(uri)
    delete(join(uri, name))
    with pytest.raises(StoreNotFound, match="safetensors"):
        load(uri)


def test_damaged_contract_is_named(uri: str) -> None:
    publish(uri, b"weights", contract(b"weights"))
    write_bytes(join(uri, "contract.json"), b'{"name": "x"}')
    with pytest.raises(StoreError, match="cannot be read"):
        load(uri)


def test_unknown_name_lists_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ct-16", "mri-16"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
        (tmp_path / f"{name}.json").write_text(contract(name.encode(), name).model_dump_json())
    monkeypatch.setattr(package, "_priors_folder", lambda: tmp_path)
    assert load("mri-16") == (b"mri-16", contract(b"mri-16", "mri-16"))
    with pytest.raises(StoreNotFound, match=r"shipped: ct-16, mri-16\)"):
        load("pet-16")
    (tmp_path / "ct-16.safetensors").write_bytes(b"x")
    with pytest.raises(StoreMismatch, match="ct-16 is damaged"):
        load("ct-16")
    (tmp_path / "ct-16.safetensors").unlink()
    with pytest.raises(StoreNotFound, match="install the package anew"):
        load("ct-16")


def test_every_shipped_prior_is_whole() -> None:
    for name in shipped():
        assert load(name)[1].name == name
