"""curve.jsonl: how a training goes, one line per validation."""

from collections.abc import Sequence

from pydantic import Field

from scoreinv.spec import Spec
from scoreinv.training.best import mean_log
from storage.uri import exists, join, read_bytes, write_bytes


class CurveRow(Spec):
    """The state of a training at one of its validations."""

    images_seen: int
    loss: float | None = None
    """Mean weighted loss since the row before; none in the row of the weights that a training goes on from."""
    learning_rate: float
    seconds: float
    """Of training since the row before, or since it was resumed."""
    sigmas: tuple[float, ...]
    """Noise levels of a denoiser; empty for a reconstructor, whose error is one number."""
    validation_rmse: tuple[float, ...] = ()
    """On held-out images at each of ``sigmas``, of the best average; empty if none are held out."""
    half_life: int = 0
    """Of that average, in images; 0: there is one alone."""
    rmse_by_half_life: dict[int, tuple[float, ...]] = Field(default_factory=dict)
    """The same of every average, if there are several."""


def error_names(row: CurveRow) -> list[str]:
    """What each of a row's errors is of: a noise level, or reconstructions."""
    return [f"{sigma:.3g}" for sigma in row.sigmas] or ["reconstruction"]


def is_start_best(rows: Sequence[CurveRow]) -> bool:
    """Whether held-out images were denoised better before the first step than by the last row's best average."""
    if not rows or rows[0].loss is not None:
        return False
    return mean_log(rows[0].validation_rmse) < mean_log(rows[-1].validation_rmse)


def read_curve(uri: str) -> list[CurveRow]:
    """The rows of the training in a folder, in order; none if it has not got that far."""
    path = join(uri, "curve.jsonl")
    lines = read_bytes(path).splitlines() if exists(path) else []
    return [CurveRow.model_validate_json(line) for line in lines]


def write_curve(uri: str, rows: Sequence[CurveRow]) -> None:
    """Put rows into a folder, in place of those that are there."""
    write_bytes(join(uri, "curve.jsonl"), "".join(f"{one.model_dump_json()}\n" for one in rows).encode())


def add_row(uri: str, row: CurveRow) -> None:
    """Put a row at the end, in place of what a training that was killed wrote after its last checkpoint."""
    write_curve(uri, [*(old for old in read_curve(uri) if old.images_seen < row.images_seen), row])
