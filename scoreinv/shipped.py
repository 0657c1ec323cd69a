"""What comes with the package: recipes, example slices, trained priors and calibrations.

In a checkout they lie where people edit them (deployments/recipes, examples); in an installed wheel they lie in
scoreinv/data, where pyproject.toml puts them. The weights of the priors lie in scoreinv/priors in both, and
calibrations in scoreinv/calibrations. This module imports no torch: ``scoreinv.priors`` makes networks of the weights.
"""

from pathlib import Path

from scoreinv.contract import PriorContract, parse_contract
from scoreinv.errors import UserError

_PACKAGE = Path(__file__).parent


def recipes_folder() -> Path:
    """The folder of the shipped recipes, NAME.yaml each."""
    return _installed_or_checkout("data/recipes", "deployments/recipes")


def deployments_file() -> Path:
    """prefect.yaml, which lists every flow as a deployment."""
    return _installed_or_checkout("data/deployments", "deployments") / "prefect.yaml"


def examples_folder() -> Path:
    """The folder of the example slices: ct (DICOM), mri (NIfTI), and a README.md with their licences."""
    return _installed_or_checkout("data/examples", "examples")


def prior_names() -> tuple[str, ...]:
    """Names of the shipped priors, sorted."""
    return tuple(sorted(path.stem for path in _priors_folder().glob("*.json")))


def prior_contract(name: str) -> PriorContract:
    """What a shipped prior expects and where it comes from.

    Raises:
        ValueError: if no prior of this name ships (the message lists those that do), or its contract is damaged.
    """
    if name not in prior_names():
        raise UserError(f"there is no shipped prior {name!r}: choose of {', '.join(prior_names()) or 'none'}")
    try:
        contract = parse_contract((_priors_folder() / f"{name}.json").read_bytes())
    except ValueError as error:
        raise UserError(f"the contract of the shipped prior {name!r} cannot be read: {error}") from error
    if not isinstance(contract, PriorContract):
        raise UserError(f"{name!r}, which ships, is a {contract.kind} and no prior: install the package anew")
    return contract


def prior_weights(name: str) -> bytes:
    """The weights of a shipped prior, as safetensors.

    Raises:
        ValueError: if no prior of this name ships, or these are not the weights of its contract.
        FileNotFoundError: if the weights are missing.
    """
    contract = prior_contract(name)
    try:
        weights = (_priors_folder() / f"{name}.safetensors").read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the weights of the shipped prior {name!r} are missing: install the package anew"
        ) from error
    contract.require_weights(weights, name)
    return weights


def calibration_names() -> tuple[str, ...]:
    """Names of the shipped calibrations, sorted: their prior's, with ``-checked`` if images are cross-validated."""
    return tuple(sorted(path.stem for path in _calibrations_folder().glob("*.json")))


def calibration_json(name: str) -> bytes:
    """A shipped calibration, as ``scoreinv.calibration.Calibration`` reads it; of ``calibration_names()``."""
    return (_calibrations_folder() / f"{name}.json").read_bytes()


def _priors_folder() -> Path:
    return _PACKAGE / "priors"


def _calibrations_folder() -> Path:
    return _PACKAGE / "calibrations"


def _installed_or_checkout(installed: str, checkout: str) -> Path:
    folder = _PACKAGE / installed
    return folder if folder.is_dir() else _PACKAGE.parent / checkout
