"""A spec refuses unknown options, and its digest depends on every option and on nothing else."""

import subprocess
import sys
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from scoreinv.spec import Spec, digest_of


class Inner(Spec):
    kind: Literal["inner"] = "inner"
    strength: float = 0.5


class Outer(Spec):
    name: str = "a"
    n_steps: int = 10
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = Inner()
    note: str | None = None


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
    assert Outer().digest() == "450f4ec88d67"
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
