"""The defaults of every option that decides a result, and what they were when defaults.json was written.

    python -m tests.defaults      puts new options into defaults.json, and new versions with their defaults

Options at their default are not in a result's address, so a default that changes needs a new ``version``.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from scoreinv.spec import Spec
from tasks.recipes import EvaluateRecipe, IngestRecipe, MeasureRecipe, ReconstructRecipe, TrainRecipe, TuneRecipe

RECIPES = (IngestRecipe, MeasureRecipe, TrainRecipe, ReconstructRecipe, TuneRecipe, EvaluateRecipe)
FILE = Path(__file__).with_suffix(".json")


def current() -> dict[str, dict[str, Any]]:
    """Version and defaults of all specs that a recipe can hold, by class."""
    kinds = sorted(set(_within(RECIPES)), key=lambda kind: kind.__name__)
    return {kind.__name__: {"version": kind.version, "defaults": _defaults(kind)} for kind in kinds}


def known() -> dict[str, dict[str, Any]]:
    """The same, as it was written down."""
    return dict(json.loads(FILE.read_text())) if FILE.exists() else {}


def changed(old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]) -> list[str]:
    """The options whose default is another one although the version is the same, as Class.option."""
    return [
        f"{name}.{option}"
        for name, one in new.items()
        if name in old and one["version"] == old[name]["version"]
        for option, default in one["defaults"].items()
        if not _is_kept(old[name]["defaults"].get(option, default), default)
    ]


def _is_kept(old: Any, new: Any) -> bool:
    """Whether a default is what it was, apart from options of its own that came later."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(_is_kept(value, new.get(name, value)) for name, value in old.items())
    return bool(old == new)


def _within(annotation: Any) -> Iterator[type[Spec]]:
    """The kinds of spec in a type, and those within them."""
    if isinstance(annotation, tuple):
        for part in annotation:
            yield from _within(part)
    elif isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _within(field.annotation)
    else:
        yield from _within(get_args(annotation))


def _defaults(kind: type[Spec]) -> dict[str, Any]:
    """Every option's default as JSON; those without one are left out."""
    fields = {name: field for name, field in kind.model_fields.items() if not field.is_required()}
    values = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    made = kind.model_construct(**values).model_dump(mode="json", include=set(values), warnings=False)
    return dict(json.loads(json.dumps(made)))


if __name__ == "__main__":
    if wrong := changed(known(), current()):
        raise SystemExit(f"these have another default: raise the version of their class first: {', '.join(wrong)}")
    FILE.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n")
