import math

import torch

from scoreinv.operators.ct import LimitedAngleCT, SparseViewCT
from scoreinv.operators.fourier_slice import FourierSlice, from_sinogram
from scoreinv.phantoms import disc, exact_sinogram, rasterise

SIZE = 48
HEAD = (disc(0.7, value=0.6), disc(0.2, x=0.3, y=0.2, value=0.3), disc(0.15, x=-0.25, y=0.3, value=-0.3))


def head() -> torch.Tensor:
    return torch.from_numpy(rasterise(HEAD, SIZE)).double()[None, None]


def test_transform_is_invertible_to_machine_precision() -> None:
    operator = FourierSlice(SIZE, SparseViewCT().angles())
    x = torch.randn(2, 1, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # Rounding of a transform goes with the largest value: up to 4, and on some machines it passes 1e-14 as such.
    largest = float(x.abs().max())
    torch.testing.assert_close(operator.inverse_transform(operator.transform(x)), x, rtol=0, atol=1e-14 * largest)


def test_mask_is_what_is_measured_and_conjugate_symmetric() -> None:
    operator = FourierSlice(SIZE, SparseViewCT().angles())
    mask = operator.mask
    assert torch.equal(mask, mask.flip(0).flip(1).roll((1, 1), (0, 1)))
    assert bool(mask[0, 0])
    assert torch.equal(torch.nonzero(mask.flatten()).flatten(), operator.cells)
    x = head()
    assert torch.equal(operator.forward(x)[0], operator.transform(x)[0, 0][mask])


def test_cells_lie_on_their_lines() -> None:
    """One view at angle 0 is the horizontal axis; one at pi / 4 runs up to the right."""
    grid = FourierSlice(SIZE, (0.0,)).grid
    assert grid == 4 * math.ceil(math.sqrt(2) * SIZE)
    assert torch.equal(torch.nonzero(FourierSlice(SIZE, (0.0,)).mask)[:, 0].unique(), torch.tensor([0]))
    rows, columns = torch.nonzero(FourierSlice(SIZE, (math.pi / 4,)).mask).T
    assert torch.equal((rows + columns) % grid, torch.zeros_like(rows))


def test_sinogram_gives_the_data_of_the_image() -> None:
    """The matrix's sinogram, turned into cells, is the image's own spectrum there, but for half a cell."""
    for spec in (SparseViewCT(), SparseViewCT(views="paper", n_full=64), LimitedAngleCT(n_views=20)):
        scan = spec.operator(SIZE)
        operator, data = scan.as_fourier_slice(scan.forward(head()))
        expected = operator.forward(head())
        assert float((data - expected).norm() / expected.norm()) < 0.03


def test_larger_expansion_comes_nearer() -> None:
    scan = SparseViewCT().operator(SIZE)
    y = scan.forward(head())
    errors = []
    for expansion in (2, 4, 8):
        operator = FourierSlice(SIZE, SparseViewCT().angles(), expansion=expansion)
        expected = operator.forward(head())
        errors.append(float((from_sinogram(operator, y, bin_spacing=1.0) - expected).norm() / expected.norm()))
    assert errors[0] > 1.3 * errors[1] > 1.3 * errors[2]


def test_exact_sinogram_is_explained_too() -> None:
    """Nothing in the path from stored data to cells knows the pixels of the operator."""
    scan = SparseViewCT().operator(SIZE)
    exact = exact_sinogram(HEAD, SIZE, SparseViewCT().angles(), n_bins=scan.data_shape[-1])
    operator, data = scan.as_fourier_slice(torch.from_numpy(exact)[None])
    expected = operator.forward(head())
    assert float((data - expected).norm() / expected.norm()) < 0.06


def test_projection_with_data_from_a_sinogram_comes_near_the_image() -> None:
    scan = SparseViewCT(n_views=60).operator(SIZE)
    truth = head()
    operator, data = scan.as_fourier_slice(scan.forward(truth))
    x = torch.zeros_like(truth)
    for _ in range(30):
        x = operator.project(x, data, strength=1.0)
    assert -10 * math.log10(float((x - truth).square().mean())) > 30


def test_scatter_is_deterministic_and_one_to_one() -> None:
    operator = FourierSlice(SIZE, SparseViewCT().angles())
    assert len(operator.cells.unique()) == len(operator.cells)
    y = torch.randn(2, *operator.data_shape, dtype=torch.complex64)
    assert torch.equal(operator.correct(y), operator.correct(y))
