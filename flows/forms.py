"""What a form of the Prefect UI, a schedule or an automation may name: no file of a worker but below registered roots.

The command line and Python keep free paths. A run of a deployment names places as ROOT/folder. Roots are registered by
SCOREINV_ROOTS of the worker, a JSON object of names and places, or else by the Prefect variable ``scoreinv_roots``,
which ``scoreinv deploy --root`` sets. Whoever may open the UI of a Prefect server may also change variables and
deployments; the environment of a worker is out of their reach.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from prefect.context import FlowRunContext
from prefect.variables import Variable

from scoreinv.errors import UserError
from scoreinv.spec import Spec
from storage.models import shipped
from storage.roots import Roots, checked_roots, place_below, workspace_below
from storage.sources.files import SHIPPED
from tasks.recipes import OWN, TRAINED

ROOTS_VARIABLE = "scoreinv_roots"
"""Of Prefect."""

ROOTS_ENVIRONMENT = "SCOREINV_ROOTS"

SpecT = TypeVar("SpecT", bound=Spec)

_Rule = Callable[[Roots, str], str]


def registered_roots() -> dict[str, str]:
    """The roots that this worker knows.

    Raises:
        UserError: if they are not written as they should be.
    """
    given = os.environ.get(ROOTS_ENVIRONMENT, "")
    try:
        return checked_roots(json.loads(given) if given else Variable.get(ROOTS_VARIABLE, default={}))
    except ValueError as error:
        where = f"{ROOTS_ENVIRONMENT} of this worker" if given else f"the Prefect variable {ROOTS_VARIABLE}"
        raise UserError(f"{where}: {error}") from error


def is_from_a_form() -> bool:
    """Whether the flow run that calls this was made of a deployment, by a form, a schedule or an automation."""
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.deployment_id)


def from_form(spec: SpecT, *, known: Spec | None = None) -> SpecT:
    """A recipe or an execution with the places that its form names; outside of a deployment as it is.

    Args:
        known: what an operator wrote: places that it names are free.

    Raises:
        UserError: if it names a place or a model otherwise than a form may.
    """
    return below_roots(spec, registered_roots(), known=known) if is_from_a_form() else spec


def below_roots(spec: SpecT, roots: Roots, *, known: Spec | None = None) -> SpecT:
    """As ``from_form`` of a deployment, with these roots."""
    free = set(_texts(known.model_dump(mode="json"))) if known else set()
    content = _allowed(spec.model_dump(mode="json"), roots, free)
    return type(spec).model_validate_json(json.dumps(content))


def workspace_from_form(workspace: str) -> str:
    """The workspace that a form names; outside of a deployment as it is. Errors as ``from_form``."""
    return workspace_below(registered_roots(), workspace) if is_from_a_form() else workspace


def place_from_form(text: str) -> str:
    """The folder that a form names; outside of a deployment as it is. Errors as ``from_form``."""
    return source_path(registered_roots(), text) if is_from_a_form() else text


def source_path(roots: Roots, path: str) -> str:
    """The path of a source that a form names: below a root, or example slices."""
    return path if path.startswith(SHIPPED) or not path else place_below(roots, path)


def _model_name(_: Roots, name: str) -> str:
    if name in ("", OWN, *shipped()) or name.startswith(("priors/", TRAINED)):
        return name
    raise UserError(f"there is no model {name!r} for a form: name {', '.join(shipped())}, or priors/0a1b2c3d4e5f")


PLACES: dict[str, _Rule] = {
    "path": source_path,
    "cache": source_path,
    "workspace": workspace_below,
    "prior": _model_name,
    "initial": _model_name,
    "coarse": _model_name,
}
"""By the names of options that could lead to a file: what a form may write there."""


OPERATORS = ("slurm", "kubernetes")
"""Kinds of clusters whose options run lines of a shell, or images, in the name of whoever runs the worker."""


def _allowed(content: Any, roots: Roots, free: set[str]) -> Any:
    if isinstance(content, list):
        return [_allowed(item, roots, free) for item in content]
    if not isinstance(content, dict):
        return content
    if _is_an_operators(content) and _text_of(content) not in free:
        raise UserError(
            "a form cannot describe jobs, pods or certificates, which run and read what an operator may: write the "
            "cluster into a recipe below the folder that SCOREINV_RECIPES of the worker names, and run that"
        )
    allowed = {name: _allowed(value, roots, free) for name, value in content.items()}
    texts = {name: value for name, value in content.items() if name in PLACES and isinstance(value, str)}
    return allowed | {name: value if value in free else PLACES[name](roots, value) for name, value in texts.items()}


def _is_an_operators(content: Mapping[str, Any]) -> bool:
    return content.get("kind") in OPERATORS or content.keys() == {"ca", "cert", "key"}


def _text_of(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)


def _texts(content: Any) -> Iterator[str]:
    """Every text of PLACES, and whatever only an operator describes."""
    if isinstance(content, dict):
        if _is_an_operators(content):
            yield _text_of(content)
        yield from (value for name, value in content.items() if name in PLACES and isinstance(value, str))
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    for part in inner:
        yield from _texts(part)
