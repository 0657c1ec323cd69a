"""Images that somebody else's program made of the data: a method by its name, which nothing here can run.

``tasks.external.keep_images`` puts such images beside the other reconstructions; they are then evaluated and reported
as all others are.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from scoreinv.denoiser import Denoiser
from scoreinv.errors import UserError
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, Needs, Step


class External(Method):
    """Somebody else's method, and the images that it made."""

    label: ClassVar[str] = "external"
    needs: ClassVar[Needs] = "nothing"
    is_stochastic: ClassVar[bool] = False
    kind: Literal["external"] = "external"
    name: str = Field("external", min_length=1, max_length=60, description="As reports show it.")
    content: str = Field("", pattern=r"^[0-9a-f]*$", description="Digest of the images.")

    @property
    def n_calls(self) -> int:
        return 0

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        raise UserError(
            f"the images of {self.name!r} are made elsewhere: put them in with tasks.external.keep_images, or choose "
            "another method"
        )
