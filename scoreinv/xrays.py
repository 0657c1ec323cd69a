"""X-rays of many energies: what a detector sees behind water, bone and metal, and a scanner's correction for water.

    attenuation = -log sum_E signal(E) exp(-sum_m length_m mu_m(E))

with the share signal(E) that each energy has in the detector's signal without an object. Low energies are lost first,
so the attenuation of twice the water is less than twice as much ("beam hardening"). A polynomial of the attenuation
gives the length of water back; of bone and metal it knows nothing. ``xrays.json`` holds the numbers, and says where
they are from.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

Material = Literal["water", "bone", "titanium", "steel", "cobalt_chrome", "gold", "amalgam"]

BODY_MM = 200.0
"""Of water: behind so much of it, bone is made to have the Hounsfield units that it has in the images."""

BONE_HU = (100.0, 1500.0)
"""Below is water of another density, above is bone of another density, between a mixture (Song et al. 2022)."""

DEGREE = 4
LONGEST_MM = 600.0
"""Of water, for which the polynomial is fitted."""


def attenuation(lengths: Mapping[Material, Tensor]) -> Tensor:
    """The attenuation of the whole signal, in the shape to which the lengths (in mm) broadcast."""
    return -torch.log(transmitted(lengths))


def transmitted(lengths: Mapping[Material, Tensor]) -> Tensor:
    """The share of the signal that is left behind lengths in mm."""
    table, total = _table(), torch.zeros(())
    for index, share in enumerate(table["signal"]):
        lost = sum((length * table["per_mm"][name][index] for name, length in lengths.items()), torch.zeros(()))
        total = total + share * torch.exp(-lost)
    return total / float(sum(table["signal"]))


def tissues(hu: Tensor) -> tuple[Tensor, Tensor]:
    """Water and bone in a pixel's width of an image in Hounsfield units: lengths over that width.

    Water of another density counts as more or less of it. Behind a body, both together attenuate as the image says.
    """
    relative = (1 + hu / 1000).clamp_min(0)
    low, high = BONE_HU
    share = ((hu - low) / (high - low)).clamp(0, 1)
    return relative * (1 - share), relative * share / _bone_over_water()


def water_length(attenuation: Tensor) -> Tensor:
    """The length of water, in mm, that has an attenuation."""
    powers = (coefficient * attenuation ** (k + 1) for k, coefficient in enumerate(_polynomial()))
    return sum(powers, torch.zeros(()))


def water_slope(attenuation: Tensor) -> Tensor:
    """The derivative of ``water_length``, in mm."""
    powers = ((k + 1) * coefficient * attenuation**k for k, coefficient in enumerate(_polynomial()))
    return sum(powers, torch.zeros(()))


@lru_cache(maxsize=1)
def _polynomial() -> tuple[float, ...]:
    """Of the length over the attenuation, from the first power on: least squares of the length's relative error."""
    lengths = torch.linspace(1, LONGEST_MM, 600, dtype=torch.float64)
    seen = attenuation({"water": lengths})
    powers = torch.stack([seen ** (k + 1) / lengths for k in range(DEGREE)], 1)
    solution: list[float] = torch.linalg.lstsq(powers, torch.ones(len(lengths), 1, dtype=torch.float64)).solution
    return tuple(float(one) for one in solution)


@lru_cache(maxsize=1)
def _bone_over_water() -> float:
    """How many times as much as water a little bone attenuates behind a body."""
    table = _table()
    names = ("water", "bone")
    water, bone, signal = map(torch.tensor, (*(table["per_mm"][name] for name in names), table["signal"]))
    left = signal * torch.exp(-BODY_MM * water)
    return float((left * bone).sum() / (left * water).sum())


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text())
    return content
