"""Put a calibration among those that ship: its half widths, and a card that says of whom they are.

    python -m benchmarks.ship_calibration workspace/calibrations/DIGEST ct-128 --people "241 people of OpenKBP (MIT)"

Name it as its prior, with ``-checked`` if it follows views that are left out, and remake it when the prior or the
preset changes: a test says so.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks.coverage import own_table
from scoreinv.calibration import Calibration
from tasks.workers.calibrate import load_calibration

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calibration", help="its folder in a workspace")
    parser.add_argument("name", help="how recipes will call it")
    parser.add_argument("--people", required=True, help="who they are, with the licence of their images")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the checkout (default: this one)")
    options = parser.parse_args()
    calibration = load_calibration(options.calibration)
    folder = options.root / "scoreinv" / "calibrations"
    (folder / f"{options.name}.json").write_text(calibration.model_dump_json(indent=1) + "\n")
    (folder / f"{options.name}.md").write_text("\n".join(card(options.name, calibration, options.people)) + "\n")


def card(name: str, calibration: Calibration, people: str) -> Iterator[str]:
    """What it is of, in Markdown."""
    image, measurement = calibration.image, calibration.measurement
    told = ", ".join(f"{key} {value}" for key, value in measurement.items() if isinstance(value, str | int | float))
    yield f"# {name}\n"
    yield f"Half widths of intervals, for recipes: `reconstruction.calibration: {name}`"
    yield "with `reconstruction.is_cross_validated: true`.\n" if calibration.typical else ""
    yield f"- of {people}; {calibration.n_slices} slices"
    yield f"- images of {image.size} x {image.size} pixels of {image.pixel_mm:g} mm, weights {calibration.prior_sha256}"
    yield f"- method {calibration.method['kind']}, with the options in {name}.json"
    yield f"- data: {told}; of images {'on the same grid' if calibration.is_exact else 'twice as fine'}\n"
    yield "How often intervals held, in percent of pixels:"
    yield from own_table(calibration, image.modality)


if __name__ == "__main__":
    main()
