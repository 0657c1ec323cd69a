"""A spec refuses unknown options, and its digest depends on every option and on nothing else."""

import subprocess
import sys
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from scoreinv.spec import Spec, digest_of, note_moved


class Inner(Spec):
    kind: Literal["inner"] = "inner"
    strength: float = 0.5


class Outer(Spec):
    name: str = "a"
    n_steps: int = 10
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = Inner()
    note: str | None = None


class Fader(Spec):
    kind: Literal["fader"] = "fader"
    strength: float = 0.5


class Extended(Outer):
    """Outer with options that came later."""

    is_fast: bool = False
    fader: Inner | Fader | None = None
    more: tuple[Inner, ...] = ()


class Reordered(Spec):
    note: str | None = None
    inner: Inner = Inner()
    sizes: tuple[int, ...] = (1, 2)
    n_steps: int = 10
    name: str = "a"


def test_unknown_options_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"inner\.strenght\n.*Extra inputs"):
        Outer.model_validate({"inner": {"strenght": 1}})


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Outer().n_steps = 3  # type: ignore[misc]


def test_the_digest_is_the_same_for_ever() -> None:
    assert Outer().digest() == "e10808d43975"
    assert Outer(name="b", inner=Inner(strength=2.0)).digest() == "1e19c3fe9cc3"
    assert digest_of({"b": 1, "a": [None, "é"]}, 2.5) == "bcb0c9cc8cfc"


@pytest.mark.parametrize(
    "change",
    [{"name": "b"}, {"n_steps": 11}, {"sizes": (2, 1)}, {"sizes": ()}, {"inner": Inner(strength=0.6)}, {"note": ""}],
    ids=str,
)
def test_the_digest_depends_on_every_option(change: dict[str, Any]) -> None:
    assert Outer(**change).digest() != Outer().digest()


def test_the_digest_ignores_how_the_same_choice_was_written() -> None:
    written = Outer.model_validate({"inner": {"strength": "0.5"}, "sizes": [1, 2]})
    assert written.digest() == Outer().digest() == Reordered().digest()
    assert Inner(strength=1).digest() == Inner(strength=1.0).digest()


def test_an_option_that_comes_later_changes_no_digest_until_it_is_used() -> None:
    used = [
        {},
        {"is_fast": True},
        {"fader": Inner()},
        {"fader": Fader()},
        {"more": (Inner(),)},
        {"more": (Inner(),) * 2},
    ]
    assert Extended().digest() == Outer().digest()
    assert Extended(n_steps=3).digest() == Outer(n_steps=3).digest()
    assert len({Extended.model_validate(change).digest() for change in used}) == len(used)


def test_a_version_that_was_raised_changes_the_digests_of_all_that_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [Inner(), Outer(), Extended(more=(Inner(),)), Extended(fader=Fader())]
    before = [spec.digest() for spec in specs]
    monkeypatch.setattr(Fader, "version", 2)
    assert [spec.digest() == digest for spec, digest in zip(specs, before, strict=True)] == [True, True, True, False]
    monkeypatch.setattr(Inner, "version", 2)
    second = [spec.digest() for spec in specs]
    monkeypatch.setattr(Inner, "version", 3)
    third = [spec.digest() for spec in specs]
    assert all(len(set(three)) == 3 for three in zip(before, second, third, strict=True))


def test_a_spec_that_went_through_json_has_the_same_digest() -> None:
    spec = Outer(inner=Inner(strength=0.1 + 0.2), name="é")
    assert Outer.model_validate_json(spec.model_dump_json()).digest() == spec.digest()


def test_the_order_and_number_of_parts_matter() -> None:
    assert len({digest_of("a", "b"), digest_of("b", "a"), digest_of("ab"), digest_of(["a", "b"]), digest_of()}) == 5


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), "Infinity", "nan"])
def test_numbers_that_are_infinite_or_none_are_refused_by_name(number: Any) -> None:
    with pytest.raises(ValidationError, match=r"strength\n  Input should be a finite number"):
        Inner(strength=number)
    with pytest.raises(ValueError, match="JSON compliant"):
        digest_of(float(number))


def test_specs_load_without_torch() -> None:
    code = "import sys, scoreinv.spec; assert not {'torch', 'numpy', 'zarr', 'prefect', 'dask'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


class Renovated(Spec):
    moved = {"strength": "inner.strength", "outer.n_steps": "n_steps", "backend": "execution.projector"}
    inner: Inner = Inner()
    outer: Outer = Outer()
    n_steps: int = 10


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"strength": 0.7}, {"inner": {"strength": 0.7}}),
        ({"strength": 0.7, "inner": {"kind": "inner"}}, {"inner": {"strength": 0.7}}),
        ({"strength": 0.7, "inner": {"strength": 0.9}}, {"inner": {"strength": 0.9}}),
        ({"outer": {"n_steps": 3, "name": "b"}}, {"outer": {"name": "b"}, "n_steps": 3}),
        ({"backend": "astra"}, {}),
        ({"outer": "nonsense"}, None),
        ({}, {}),
    ],
)
def test_an_old_option_is_read_in_its_new_place(old: dict[str, Any], new: dict[str, Any] | None):
    before = repr(old)
    if new is None:
        with pytest.raises(ValidationError, match="outer"):
            Renovated.model_validate(old)
    else:
        assert Renovated.model_validate(old) == Renovated.model_validate(new)
    assert repr(old) == before


def test_the_reader_of_an_old_option_is_told_where_it_is_now(caplog: pytest.LogCaptureFixture):
    note_moved.cache_clear()
    for _ in range(2):
        Renovated.model_validate({"strength": 0.7, "backend": "astra"})
    assert caplog.messages == [
        "strength of an earlier version is read as inner.strength: change the recipe",
        "backend of an earlier version is read as execution.projector: change the recipe",
    ]
