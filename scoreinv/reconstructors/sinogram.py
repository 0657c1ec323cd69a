"""Sinograms of few views among those of a full scan, as the reconstructors that complete them share it."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from scoreinv.errors import UserError
from scoreinv.operators.ct import CTOperator, equispaced_angles
from scoreinv.operators.geometry import ramp_filter
from scoreinv.operators.parallel_beam import ParallelBeam
from scoreinv.problem import InverseProblem

SAME_ANGLE = 1e-6
"""Radians: a measured view this near to one of the full scan is that one."""


class FullScan:
    """The data of a problem in a full scan of equispaced views, in units of the image's side.

    Attributes:
        operator: of the full scan.
        y: the measured sinograms (batch, n_measured, n_bins).
        scale: what they were divided by, so that values are about those of the images.
    """

    def __init__(self, problem: InverseProblem, n_views: int) -> None:
        """Take data of parallel beams through images of one channel.

        Raises:
            UserError: if they are others.
        """
        operator = problem.operator
        geometry = operator.geometry if isinstance(operator, CTOperator) else None
        if not isinstance(operator, CTOperator) or not isinstance(geometry, ParallelBeam):
            raise UserError("this reconstructor completes sinograms of parallel beams: choose another measurement")
        if operator.image_shape[0] != 1:
            raise UserError(f"this reconstructor needs images of 1 channel, not {operator.image_shape[0]}")
        self.n_views = n_views
        self.angles = torch.tensor(geometry.angles, dtype=torch.float64)
        self.step = math.pi / n_views
        self.scale = float(geometry.size)
        self.y = problem.y.float() / self.scale
        self._geometry, self._measured = geometry, operator
        self.operator = self._scan(n_views)

    def sinograms(self, images: Tensor) -> Tensor:
        """Those of the full scan, (batch, n_views, n_bins), of images (batch, 1, size, size)."""
        return self.operator.forward(images) / self.scale

    def placed(self) -> Tensor:
        """The measured views where they belong, nothing elsewhere; those that share a place are averaged."""
        rows = (self.angles / self.step).round().long() % self.n_views
        # A view just before half a turn lies nearest to the first one, the other way round.
        turned = (self.angles / self.step).round().long() // self.n_views % 2 == 1
        y = torch.where(turned[None, :, None].to(self.y.device), self.y.flip(-1), self.y)
        rows = rows.to(y.device)
        total = y.new_zeros(len(y), self.n_views, y.shape[-1]).index_add_(1, rows, y)
        counts = y.new_zeros(self.n_views).index_add_(0, rows, y.new_ones(len(rows)))
        return total / counts.clamp_min(1)[:, None]

    def kept(self, sinograms: Tensor) -> Tensor:
        """Sinograms of the full scan with measured views in place, where it has them."""
        places = self.angles / self.step
        is_there = (places - places.round()).abs() * self.step < SAME_ANGLE
        mask = torch.zeros(self.n_views, dtype=torch.bool)
        mask[places[is_there].round().long() % self.n_views] = True
        return torch.where(mask[:, None].to(sinograms.device), self.placed(), sinograms)

    def interpolated(self) -> Tensor:
        """The full scan by linear interpolation between the measured views; half a turn on, a view is reversed."""
        order = self.angles.argsort()
        angles, y = self.angles[order], self.y[:, order.to(self.y.device)]
        angles = torch.cat([angles[-1:] - math.pi, angles, angles[:1] + math.pi])
        y = torch.cat([y[:, -1:].flip(-1), y, y[:, :1].flip(-1)], 1)
        wanted = torch.arange(self.n_views, dtype=torch.float64) * self.step
        after = torch.searchsorted(angles, wanted, right=True).clamp(1, len(angles) - 1)
        gap = (angles[after] - angles[after - 1]).clamp_min(1e-12)
        share = ((wanted - angles[after - 1]) / gap).clamp(0, 1).to(y)[:, None]
        return torch.lerp(y[:, after - 1], y[:, after], share)

    def image(self, sinograms: Tensor, *, every: int = 1) -> Tensor:
        """Filtered backprojection (batch, 1, size, size) of every so many views of the full scan."""
        scan = self.operator if every == 1 else self._scan(self.n_views, every)
        return scan.direct(sinograms[:, ::every] * self.scale)

    def measured_image(self) -> Tensor:
        """Filtered backprojection of the measured views alone."""
        return self._measured.direct(self.y * self.scale)

    def filtered(self, sinograms: Tensor) -> Tensor:
        """Sinograms as filtered backprojection uses them, values about those of the images."""
        return ramp_filter(sinograms * self.scale)

    def _scan(self, n_views: int, every: int = 1) -> CTOperator:
        geometry = replace(self._geometry, angles=equispaced_angles(n_views)[::every])
        return CTOperator(geometry).with_projector(self._measured.projector)
