"""Ways to compute line integrals: one pair (project, backproject) for each, all with the same conventions.

``matrix`` is the reference: exact areas, the exact transpose, every device. The others are for people who
have them: ``torch_radon`` (CUDA) and ``astra`` (its CPU projector with linear interpolation). They are
imported when chosen.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scoreinv.errors import MissingPackage, UserError
from scoreinv.operators.projection_matrix import ParallelBeamGeometry, projection_matrix

Backend = Literal["matrix", "torch_radon", "astra"]
Map = Callable[[Tensor], Tensor]


class Projector(NamedTuple):
    """Sinograms (batch, n_views, n_bins) of images (batch, 1, size, size), and the way back; differentiable."""

    project: Map
    backproject: Map


def projector(geometry: ParallelBeamGeometry, backend: Backend) -> Projector:
    """The pair of a backend."""
    if backend == "astra":
        there, back = partial(_astra_project, geometry), partial(_astra_backproject, geometry)
    elif backend == "torch_radon":
        there, back = partial(_torch_radon_project, geometry), partial(_torch_radon_backproject, geometry)
    else:
        there, back = partial(_matrix_project, geometry), partial(_matrix_backproject, geometry)
    return Projector(partial(_linear, there, back), partial(_linear, back, there))


def _linear(there: Map, back: Map, x: Tensor) -> Tensor:
    result: Tensor = _Linear.apply(x, there, back)  # type: ignore[no-untyped-call]
    return result


def require(backend: Backend) -> None:
    """Nothing, if the backend can be imported.

    Raises:
        ImportError: if its package is not installed.
    """
    package, advice = {
        "matrix": ("torch", ""),
        "astra": ("astra", "install it with: pip install 'scoreinv[astra]'"),
        "torch_radon": ("torch_radon", "build it from github.com/matteo-ronchetti/torch-radon, which needs CUDA"),
    }[backend]
    if find_spec(package) is None:
        raise MissingPackage(f"backend={backend!r} needs the package {package!r}: {advice}; or choose backend='matrix'")


class _Linear(torch.autograd.Function):
    """x -> there(x) with the gradient back(g), to any order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Map, back: Map) -> Tensor:
        ctx.there, ctx.back = there, back
        return there(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _linear(ctx.back, ctx.there, gradient), None, None


def _matrix_project(geometry: ParallelBeamGeometry, x: Tensor) -> Tensor:
    matrix = projection_matrix(geometry, x.dtype, x.device)
    return _rows_times(matrix, x).view(len(x), geometry.n_views, geometry.n_bins)


def _matrix_backproject(geometry: ParallelBeamGeometry, y: Tensor) -> Tensor:
    matrix = projection_matrix(geometry, y.dtype, y.device, transposed=True)
    return _rows_times(matrix, y).view(len(y), 1, geometry.size, geometry.size)


def _rows_times(matrix: Tensor, batch: Tensor) -> Tensor:
    """The matrix times each item of a batch (batch, ...): (batch, rows).

    The batch runs fastest in memory, so that one visit to an entry of the matrix serves all of it.
    """
    columns = batch.flatten(1)
    if len(columns) == 1:
        return (matrix @ columns[0])[None]
    return (matrix @ columns.T.contiguous()).T.contiguous()


def _astra_project(geometry: ParallelBeamGeometry, x: Tensor) -> Tensor:
    return _astra_run(geometry, x.flatten(1, 2), forward=True)


def _astra_backproject(geometry: ParallelBeamGeometry, y: Tensor) -> Tensor:
    return _astra_run(geometry, y, forward=False)[:, None]


def _astra_run(geometry: ParallelBeamGeometry, batch: Tensor, *, forward: bool) -> Tensor:
    """Results of ASTRA's CPU projector for a batch (batch, rows, columns), computed in float32, one by one."""
    import astra

    volume = astra.create_vol_geom(geometry.size, geometry.size)
    scan = astra.create_proj_geom("parallel", geometry.bin_spacing, geometry.n_bins, np.array(geometry.angles))
    shape = (geometry.n_views, geometry.n_bins) if forward else (geometry.size, geometry.size)
    results = np.zeros((len(batch), *shape), dtype=np.float32)
    handle = astra.create_projector("linear", scan, volume)
    try:
        for item, result in zip(np.ascontiguousarray(batch.detach().cpu().float().numpy()), results, strict=True):
            pair = (item, result) if forward else (result, item)
            _astra_step(handle, scan, volume, pair, "FP" if forward else "BP")
    finally:
        astra.projector.delete(handle)
    return torch.from_numpy(results).to(batch)


def _astra_step(handle: int, scan: Any, volume: Any, pair: tuple[Any, Any], algorithm: str) -> None:
    """Fill the sinogram (FP) or the image (BP) of a pair (image, sinogram) in place."""
    import astra

    image, sinogram = astra.data2d.link("-vol", volume, pair[0]), astra.data2d.link("-sino", scan, pair[1])
    options = astra.astra_dict(algorithm)
    options["ProjectorId"], options["ProjectionDataId"] = handle, sinogram
    options["VolumeDataId" if algorithm == "FP" else "ReconstructionDataId"] = image
    run = astra.algorithm.create(options)
    astra.algorithm.run(run)
    astra.algorithm.delete(run)
    astra.data2d.delete([image, sinogram])


def _torch_radon_project(geometry: ParallelBeamGeometry, x: Tensor) -> Tensor:
    y: Tensor = _torch_radon(geometry).forward(_on_cuda(x)[:, 0])
    return y.to(x)


def _torch_radon_backproject(geometry: ParallelBeamGeometry, y: Tensor) -> Tensor:
    x: Tensor = _torch_radon(geometry).backward(_on_cuda(y))
    return x[:, None].to(y)


def _on_cuda(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        raise UserError(f"torch_radon needs CUDA tensors, got {tensor.device}: move them, or choose backend='matrix'")
    return tensor.float().contiguous()


@lru_cache(maxsize=8)
def _torch_radon(geometry: ParallelBeamGeometry) -> Any:
    """The package's own projector, written to the interface of its version 2; not tested, for want of CUDA."""
    import torch_radon

    volume = torch_radon.Volume2D()
    volume.set_size(geometry.size, geometry.size)
    return torch_radon.ParallelBeam(
        geometry.n_bins, torch.tensor(geometry.angles, dtype=torch.float32), geometry.bin_spacing, volume
    )
