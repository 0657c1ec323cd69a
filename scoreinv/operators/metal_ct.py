"""Computed tomography of slices with metal: A of the rays that it does not hide.

Where there is metal, a ray's value is far from a line integral of the image: photons are few, those that come through
are of the highest energies, and the edge runs within bins. So these rays are no equations: y = seen A x, with what each
ray counts for, from 0 behind metal to 1 beside it (``trace``). All of it is found in the data, as a scanner must.

Simulated data are those of X-rays of many energies through water, bone and metal (``xrays``), with the photons' noise,
the logarithm and a correction for water, as scanners make them: without metal they are A x, but for what bone hardens.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scoreinv.contract import WATER_PER_MM, ImageContract
from scoreinv.errors import UserError
from scoreinv.measurement import NO_CONTEXT, AnyNoise, Context, GaussianNoise, Measured, PoissonNoise
from scoreinv.modality import MODALITIES
from scoreinv.noise import Noise
from scoreinv.operators.ct import MAX_VIEWS, CTMeasurement, CTOperator, equispaced_angles
from scoreinv.operators.geometry import Geometry, covering_n_bins
from scoreinv.operators.inserts import KINDS, Inserts, KindName, draw_inserts
from scoreinv.operators.linear import MaskedTransform
from scoreinv.operators.parallel_beam import ParallelBeam
from scoreinv.operators.trace import interpolated, metal_in, seen_beside
from scoreinv.phantoms import coverage, exact_sinogram
from scoreinv.xrays import tissues, transmitted, water_length, water_slope

N_PARTS = 4
"""Of a bin, at least: the metal's edge runs within it, and what adds up are signals, not their logarithms."""

LEAST_SIGNAL = 1e-12
"""Of the whole: no simulated ray ends below, so that the logarithm is finite without noise, too."""


class MetalCT(CTMeasurement):
    """Parallel-beam CT over half a turn of slices with metal, which is put into simulated ones."""

    kind: Literal["metal_ct"] = "metal_ct"
    is_linear: ClassVar[bool] = False
    n_views: int = Field(180, ge=1, le=MAX_VIEWS, description="Measured views.")
    metal: Literal["any", "none", "hip_head", "rod", "screw", "filling"] = Field(
        "any", description="What a simulation puts into each slice."
    )
    threshold_hu: float = Field(
        2500.0, ge=1000, le=30000, title="Threshold", description="HU above are metal, in the data's blurred FBP."
    )
    noise: AnyNoise = Field(PoissonNoise(n_photons=1e6), title="Measurement noise")

    @model_validator(mode="after")
    def _noise_is_of_photons(self) -> "MetalCT":
        if isinstance(self.noise, GaussianNoise):
            raise ValueError("noise.kind='gaussian' knows nothing of rays that metal starves: take poisson, or none")
        return self

    def title(self) -> str:
        return f"CT with metal, {self.n_views} views"

    def geometry(self, size: int) -> ParallelBeam:
        return ParallelBeam(size, equispaced_angles(self.n_views), covering_n_bins(size))

    @property
    def n_full_scan(self) -> int:
        return max(180, self.n_views)

    def operator(self, size: int, context: Context = NO_CONTEXT, *, n_channels: int = 1) -> "TracedCTOperator":
        geometry = self.geometry(size)
        found = context or self.context(size, Noise(0, [""]))
        return TracedCTOperator(
            geometry, found["seen"], found["behind"], n_full=self.n_full_scan, n_channels=n_channels
        )

    def context(self, size: int, noise: Noise) -> Context:
        """Of slices without metal: what there is of it is found in data.

        ``seen``: what each ray counts for; ``behind``: what was measured of the rest; ``metal``: its pixels, which no
        score counts: those where a simulation put it, or else those where it was found.
        """
        shape = (len(noise), *self.geometry(size).data_shape)
        metal = torch.zeros(len(noise), 1, size, size, dtype=torch.bool)
        return {"seen": torch.ones(shape), "behind": torch.zeros(shape), "metal": metal}

    def scored(self, context: Context) -> Tensor:
        return ~context["metal"]

    def measured(self, images: Tensor, contract: ImageContract, noise: Noise) -> Measured:
        if contract.n_channels != 1:
            raise UserError(f"metal is put into images of 1 channel, not of {contract.n_channels}: set n_channels=1")
        inserts = self.inserts(images, contract, noise)
        # One by one: where a ray has few photons, the last bit decides how many, and it hangs on the batch.
        pairs = zip(images[:, 0], inserts, strict=True)
        clean = torch.stack([self.attenuation(image, contract, one) for image, one in pairs])
        counted = self.noise.apply(clean / contract.attenuation_per_pixel(), contract, noise.of("measurement"))
        found = self.found(counted, contract)
        metal = torch.stack([covered(one, contract.size) > 0 for one in inserts])[:, None].to(images.device)
        return found._replace(context={**found.context, "metal": metal})

    def inserts(self, images: Tensor, contract: ImageContract, noise: Noise) -> list[Inserts]:
        """The metal that a simulation puts into slices; the arguments are those of ``measured``."""
        if self.metal == "none":
            return [Inserts("titanium", ())] * len(images)
        kinds: tuple[KindName, ...] = tuple(KINDS) if self.metal == "any" else (self.metal,)
        return draw_inserts(images, contract, noise.of("context"), kinds=kinds)

    def found(self, counted: Tensor, contract: ImageContract) -> Measured:
        """What a scanner knows of slices from their attenuation, corrected for water, and the metal it finds in them.

        Args:
            counted: -log of the signal, (batch, n_views, n_bins), over ``contract.attenuation_per_pixel()``.
            contract: of the images that are looked for.
        """
        scale, noise_std = contract.attenuation_per_pixel(), self.noise.std(counted, contract)
        raw = water_length(counted * scale) * WATER_PER_MM / scale
        if noise_std.ndim > 1:
            noise_std = noise_std * water_slope(counted * scale) * WATER_PER_MM
        # Where an image's 0 is less than air, there is something of everything that the rays do not see.
        below_air = (MODALITIES[contract.modality].background - contract.low) / (contract.high - contract.low)
        everywhere = raw.new_ones(1, 1, contract.size, contract.size)
        return self.split(raw + below_air * self._whole(contract).forward(everywhere), noise_std, contract)

    def split(self, raw: Tensor, noise_std: Tensor, contract: ImageContract) -> Measured:
        """Sinograms (batch, n_views, n_bins) parted into what is seen and what metal hides.

        Args:
            raw: all rays, as a ``CTOperator`` measures them.
            noise_std: of each slice, or of each ray.
            contract: of the images.
        """
        whole = self._whole(contract)
        hu = contract.low + whole.direct(raw) * (contract.high - contract.low)
        metal = metal_in(hu, self.threshold_hu, n_views=self.n_views)
        seen = seen_beside(whole.forward(metal.to(raw)))
        if noise_std.ndim > 1:
            noise_std = noise_std.where(seen > 0, noise_std.amin((1, 2), keepdim=True))
        return Measured(seen * raw, noise_std, {"seen": seen, "behind": (1 - seen) * raw, "metal": metal})

    def _whole(self, contract: ImageContract) -> CTOperator:
        return CTOperator(self.geometry(contract.size), n_full=self.n_full_scan)

    def attenuation(self, x: Tensor, contract: ImageContract, inserts: Inserts) -> Tensor:
        """-log of the signal behind an image (height, width), finer by a whole factor or not, (n_views, n_bins)."""
        factor = len(x) // contract.size
        fine, pixel_mm = self.geometry(contract.size).refined(factor), contract.pixel_mm / factor
        hu = contract.low + x * (contract.high - contract.low)
        left = 1 - covered(inserts, fine.size).to(x)
        water, bone = (CTOperator(fine).forward((left * one)[None, None])[0] * pixel_mm for one in tissues(hu))
        signal = _signal(water, bone, inserts, fine, pixel_mm).view(self.n_views, -1, factor).mean(-1)
        return -torch.log(signal.clamp_min(LEAST_SIGNAL))


def covered(inserts: Inserts, size: int) -> Tensor:
    """The part of every pixel that is metal, (size, size)."""
    parts = [torch.from_numpy(coverage(piece, size, supersampling=4)) for piece in inserts.pieces]
    return sum(parts, torch.zeros(size, size, dtype=torch.float64)).float().clamp_max(1)


def _signal(water: Tensor, bone: Tensor, inserts: Inserts, geometry: ParallelBeam, pixel_mm: float) -> Tensor:
    """What is left of the signal of one slice in every bin, (n_views, n_bins), behind lengths in mm and the metal."""
    if not inserts.pieces:
        return transmitted({"water": water, "bone": bone})
    n_bins = geometry.n_bins * N_PARTS
    lengths = exact_sinogram(inserts.pieces, geometry.size, geometry.angles, n_bins=n_bins, bin_spacing=1 / N_PARTS)
    metal = torch.from_numpy(lengths).to(water).view(*water.shape, N_PARTS) * pixel_mm
    return transmitted({"water": water[..., None], "bone": bone[..., None], inserts.material: metal}).mean(-1)


class TracedCTOperator(CTOperator):
    """y = seen A x: images (batch, n_channels, size, size) to what is seen of their sinograms.

    Attributes:
        seen: what each ray counts for, from 0 (hidden) to 1, (batch, n_views, n_bins); 1 long, it serves all images.
        behind: what was measured of the rest, (1 - seen) times the ray; used by the uncorrected image alone.
    """

    per_image: ClassVar[tuple[str, ...]] = ("seen", "behind")

    def __init__(
        self, geometry: Geometry, seen: Tensor, behind: Tensor, *, n_full: int | None = None, n_channels: int = 1
    ) -> None:
        """Take a geometry, and for every image what its rays count for and what was measured of the rest."""
        super().__init__(geometry, n_full=n_full, n_channels=n_channels)
        shape = (-1, *[1] * (n_channels > 1), *geometry.data_shape)
        self.seen, self.behind = seen.view(shape), behind.view(shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.seen.to(x.dtype) * super().forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return super().adjoint(self.seen.to(y.dtype) * y)

    def simulate(self, fine: Tensor) -> Tensor:
        return self.seen.to(fine.dtype) * super().simulate(fine)

    def whole(self, x: Tensor) -> Tensor:
        """A x: also the rays that metal hides."""
        return super().forward(x)

    def direct(self, y: Tensor) -> Tensor:
        """Filtered backprojection of all rays as they were measured, those behind metal as well."""
        return super().direct(y + self.behind.to(y.dtype))

    def start(self, y: Tensor) -> Tensor:
        """Filtered backprojection with lines across the trace."""
        return super().direct(interpolated(y, self.seen.to(y.dtype)))

    def as_fourier_slice(self, y: Tensor) -> tuple[MaskedTransform, Tensor]:
        raise UserError("the Fourier-slice transform takes whole views, of which metal hides parts: take residual")
