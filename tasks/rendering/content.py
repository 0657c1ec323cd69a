"""What a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Panel:
    """One slice, from truth to uncertainty.

    Attributes:
        title: which slice this is.
        truth: (height, width), in the unit of ``value_label``, as are the next three; None if nobody knows it.
        naive: the one-step reconstruction.
        result: the reconstruction the report is about.
        std: standard deviation of posterior samples, None if there is a single one.
        naive_name: what the one-step reconstruction is called; a key of ``scores``.
        result_name: the method behind ``result``; a key of ``scores``.
        scores: method -> metric -> value of this slice.
        value_label: the unit, such as HU; empty for values without one.
        low: shown black.
        high: shown white.
        pixel_mm: side of a pixel in millimetres.
        n_samples: how many posterior samples ``std`` comes from, 0 if not known.
        spread_of: the method that they are of, if that is not the one behind ``result``.
    """

    title: str
    truth: Image | None
    naive: Image
    result: Image
    std: Image | None
    naive_name: str
    result_name: str
    scores: Mapping[str, Mapping[str, float]]
    value_label: str
    low: float
    high: float
    pixel_mm: float
    n_samples: int = 0
    spread_of: str = ""

    def __post_init__(self) -> None:
        shapes = {x.shape for x in (self.truth, self.naive, self.result, self.std) if x is not None}
        if len(shapes) != 1 or self.result.ndim != 2:
            raise ValueError(f"panel {self.title!r} needs images (height, width) of one shape, got {sorted(shapes)}")
        if not self.low < self.high:
            raise ValueError(f"panel {self.title!r} needs low < high to show values, got {self.low} and {self.high}")
        if not self.pixel_mm > 0:
            raise ValueError(f"panel {self.title!r} needs pixel_mm > 0 for its scale bar, got {self.pixel_mm}")


@dataclass(frozen=True)
class MethodRow:
    """A method's metrics over ``n`` slices, each as (mean, standard deviation), and what a slice costs.

    ``counts`` says of how many slices a mean is, where it is not of all: a metric may be infinite or undefined.
    """

    method: str
    n: int
    nfe: int
    seconds_per_slice: float | None
    metrics: Mapping[str, tuple[float, float]]
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportSection:
    """One measurement of one data set: its methods, some slices, and the recipe that makes them again.

    ``baseline`` names the row that the others are compared with; empty for none.
    """

    heading: str
    intro: Sequence[str] = ()
    rows: Sequence[MethodRow] = ()
    panels: Sequence[Panel] = ()
    recipe_yaml: str = ""
    baseline: str = field(default="")
