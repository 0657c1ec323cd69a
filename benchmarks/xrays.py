"""The table of X-rays that CT of metal is simulated with: a spectrum, and what materials take away of it.

    pip install 'scoreinv[xrays]'
    python -m benchmarks.xrays

The spectrum is that of a tungsten tube at 120 kV behind 7 mm of aluminium, as a detector sees it that measures energy
(SpekPy, Poludniowski et al. 2021, doi:10.1002/mp.14945). Attenuation is of elements (Elam et al. 2002,
doi:10.1016/S0969-806X(01)00227-4, by XrayDB), mixed by mass; within a bin it is the mean over the spectrum. Writes
scoreinv/xrays.json; nothing else needs the two packages.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import spekpy
import xraydb

TABLE = Path(__file__).parents[1] / "scoreinv" / "xrays.json"
KILOVOLT, TARGET_DEGREES, ALUMINIUM_MM = 120, 12, 7.0
BIN_KEV = 5


class Material(NamedTuple):
    """Grams per cubic centimetre, and the share of each element by mass."""

    density: float
    shares: Mapping[str, float]


MATERIALS = {
    "water": Material(1.0, {"H": 0.1119, "O": 0.8881}),
    # Cortical bone of ICRU report 44.
    "bone": Material(
        1.92,
        {"H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103, "S": 0.003, "Ca": 0.225},
    ),
    # Alloys of implants (ASTM F136, F138, F75) and of fillings (ISO 22674, ISO 24234).
    "titanium": Material(4.43, {"Ti": 0.90, "Al": 0.06, "V": 0.04}),
    "steel": Material(8.0, {"Fe": 0.655, "Cr": 0.17, "Ni": 0.12, "Mo": 0.025, "Mn": 0.02, "Si": 0.01}),
    "cobalt_chrome": Material(8.3, {"Co": 0.64, "Cr": 0.29, "Mo": 0.06, "Si": 0.01}),
    "gold": Material(15.5, {"Au": 0.70, "Ag": 0.13, "Cu": 0.10, "Pd": 0.04, "Zn": 0.03}),
    "amalgam": Material(11.5, {"Hg": 0.50, "Ag": 0.31, "Sn": 0.12, "Cu": 0.07}),
}


def main() -> None:
    """Compute and write the table."""
    TABLE.write_text(json.dumps(table(), indent=1) + "\n")
    print(f"wrote {TABLE}")


def table() -> dict[str, Any]:
    """Energies of the bins, the share of each in the detector's signal, and attenuation per mm in each."""
    keV, photons = (
        spekpy.Spek(kvp=KILOVOLT, th=TARGET_DEGREES, dk=1.0).filter("Al", ALUMINIUM_MM).get_spectrum(edges=False)
    )
    signal = keV * photons
    bins = np.floor(keV / BIN_KEV).astype(int)
    kept = [one for one in np.unique(bins) if signal[bins == one].sum() > 1e-5 * signal.sum()]

    def means(values: np.ndarray) -> list[float]:
        found = [np.average(values[bins == one], weights=signal[bins == one]) for one in kept]
        return [float(f"{value:.5g}") for value in found]

    return {
        "source": f"W, {KILOVOLT} kV, {TARGET_DEGREES} degrees, {ALUMINIUM_MM:g} mm Al, energy-integrating; "
        f"SpekPy {spekpy.__version__}, XrayDB {xraydb.__version__}; python -m benchmarks.xrays",
        "keV": means(keV),
        "signal": [float(f"{signal[bins == one].sum() / signal.sum():.5g}") for one in kept],
        "per_mm": {name: means(attenuation(material, keV)) for name, material in MATERIALS.items()},
    }


def attenuation(material: Material, keV: np.ndarray) -> np.ndarray:
    """Linear attenuation in 1/mm."""
    per_mass = sum(share * xraydb.mu_elam(element, 1000 * keV) for element, share in material.shares.items())
    return np.asarray(material.density * per_mass / 10)


if __name__ == "__main__":
    main()
