"""What pyproject.toml cannot say: the recipes and the example slices travel inside the package scoreinv.

``scoreinv.shipped`` finds them there in an installed wheel, and where they lie in a checkout.
"""

from setuptools import find_packages, setup

SHIPPED = {
    "scoreinv.data.deployments": "deployments",
    "scoreinv.data.recipes": "deployments/recipes",
    "scoreinv.data.examples": "examples",
}

setup(
    packages=[*find_packages(include=["scoreinv*", "storage*", "tasks*", "flows*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        "tasks.rendering": ["templates/*.j2", "templates/*.css"],
        "scoreinv": [
            "xrays.json",
            "priors/*.safetensors",
            "priors/*.json",
            "priors/*.md",
            "calibrations/*.json",
            "calibrations/*.md",
        ],
        "scoreinv.data.deployments": ["prefect.yaml"],
        "scoreinv.data.recipes": ["*.yaml"],
        # README.md names the licences of the slices.
        "scoreinv.data.examples": ["README.md", "ct/*/*.dcm", "mri/*/*.nii.gz"],
    },
)
