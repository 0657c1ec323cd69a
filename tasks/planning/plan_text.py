"""A plan as a YAML recipe that a person can read and edit; its cost and its reasons stand in comments above."""

import shlex
from collections.abc import Iterator
from typing import Any

import yaml

from storage.fingerprint import Fingerprint, Range
from tasks.planning.plan import Plan
from tasks.planning.presets import noise_note
from tasks.running.shards import Execution

N_REJECTED_SHOWN = 5

Lines = Iterator[str]


def plan_text(plan: Plan, path: str) -> str:
    """The content of the file; it loads as a pipeline recipe and its execution."""
    content = plan.pipeline.model_dump(mode="json") | {"execution": _settings(plan.execution)}
    body = yaml.safe_dump(_tidy(content), sort_keys=False, default_flow_style=None, allow_unicode=True, width=118)
    return "\n".join([*map(_comment, header(plan, path)), "", body])


def header(plan: Plan, path: str) -> list[str]:
    """How to run the plan, what it costs, what the images are like, and why it was made so."""
    return [
        "A plan: edit what you like, then run",
        f"  {shlex.join(['scoreinv', 'pipeline', path])}",
        "or see first, with --dry-run, what that would do.",
        "",
        *_cost_lines(plan),
        "",
        *_image_lines(plan.draft.images.fingerprint),
        "",
        *_reason_lines(plan),
    ]


def _cost_lines(plan: Plan) -> Lines:
    images, seconds, total = plan.draft.images.fingerprint, plan.seconds(), plan.total_seconds()
    workers = "1 worker" if plan.n_workers == 1 else f"{plan.n_workers} workers, all at once"
    yield f"Expected cost, timed on {workers} ({plan.timing.machine}):"
    yield f"  {'':12}{'samples':>8}{'network calls':>15}{'a slice':>12}{f'{images.n_slices} slices':>15}"
    written = [plan.draft.recipe.preset, *list(seconds)[-1:]]
    for name, option in plan.draft.options.items():
        n_calls, mark = plan.draft.n_images(name) * option.method.n_calls, "  written below" if name in written else ""
        cells = f"{option.n_samples:>8}{n_calls:>15}{duration(seconds[name]):>12}{duration(total[name]):>15}"
        yield f"  {name:12}{cells}{mark}"
    both = sum(total[name] for name in written)
    yield f"  Reconstruction as written below: {duration(both)}; reading, metrics and the report come on top."
    if not images.is_complete:
        yield f"  Every 1000 further slices: {duration(1000 * both / images.n_slices)}."


def _image_lines(images: Fingerprint) -> Lines:
    yield "The images:"
    yield f"  {images.modality}, {images.n_slices} slices of {images.n_volumes} volumes of {images.n_subjects} subjects"
    if not images.is_complete:
        yield f"  Only the first {images.n_volumes} volumes were read, there are more (max_volumes)."
    matrix = f"{_span(images.rows)} x {_span(images.columns)} pixels"
    yield f"  {matrix} of {_span(images.pixel_mm)} mm, {_span(images.width_mm)} mm wide"
    yield f"  Left out: {len(images.rejected) or 'nothing'}"
    for bad in images.rejected[:N_REJECTED_SHOWN]:
        yield f"    {bad.file}: {bad.reason}"
    if len(images.rejected) > N_REJECTED_SHOWN:
        yield f"    and {len(images.rejected) - N_REJECTED_SHOWN} more"


def _reason_lines(plan: Plan) -> Lines:
    prior, grid, images = plan.draft.prior, plan.draft.grid, plan.draft.images.fingerprint
    others = f"{', '.join(prior.others)} would fit as well" if prior.others else "no other fits"
    why = "as asked for" if plan.draft.recipe.prior else f"the nearest window and field of view; {others}"
    width, outside = grid.size * grid.pixel_mm, images.share_outside(grid.low, grid.high)
    yield "Why so:"
    yield f"  prior {prior.name}: {why}."
    if images.width_mm[2] > width:
        yield f"  grid: {width:.0f} mm wide, as the prior's; the borders of wider images are cut."
    if outside > 0:
        yield f"  values: about {100 * outside:.1g} % of the body is outside {grid.low:g} to {grid.high:g}: cut off."
    measurement = plan.draft.recipe.measurement
    for note in filter(None, (*measurement.notes(grid), noise_note(measurement.noise))):
        yield f"  measurement: {note}."
    yield f"  intervals: {plan.draft.intervals.why}."
    yield "  batch size and precision: the fastest network calls. Milliseconds per image:"
    for precision, seconds in plan.timing.calls.items():
        yield f"    {precision}: " + ", ".join(f"{1000 * s:.3g} (batch of {size})" for size, s in seconds.items())
    if "bfloat16" not in plan.timing.calls:
        yield "    bfloat16 was not tried: a convolution is no faster in it here"


def duration(seconds: float) -> str:
    """Seconds in the unit that people use for so many."""
    for unit, length, limit in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{float(f'{seconds / length:.2g}'):g} {unit}"
    return f"{float(f'{seconds / 86400:.2g}'):g} days"


def _settings(execution: Execution) -> dict[str, Any]:
    """What a plan decides, and what it was told; a workspace of the default name is found where the run starts."""
    default, execution = Execution().absolute(), execution.absolute()
    told = {name for name in Execution.model_fields if getattr(execution, name) != getattr(default, name)}
    return execution.model_dump(mode="json", include={"cluster", "batch_size", "device"} | told)


def _span(values: Range) -> str:
    low, _, high = (f"{value:.3g}" for value in values)
    return low if low == high else f"{low} to {high}"


def _tidy(value: Any) -> Any:
    """JSON with the kind of everything first, and without what is empty."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    names = sorted((name for name in value if value[name] not in (None, "", [])), key=lambda name: name != "kind")
    return {name: _tidy(value[name]) for name in names}


def _comment(line: str) -> str:
    # Names of files may hold anything; a line break would end the comment.
    return "# {}".format("".join(c if c.isprintable() else " " for c in line)).rstrip()
