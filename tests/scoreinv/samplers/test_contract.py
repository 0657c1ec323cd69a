"""What every method promises, on both modalities."""

from collections.abc import Iterator

import pytest
import torch

from scoreinv.baselines import NMAR, LinearInterpolation
from scoreinv.denoiser import MixtureDenoiser
from scoreinv.linalg import norms, spread
from scoreinv.methods import AnyMethod
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, Method, Model, reconstruct, run
from scoreinv.samplers.sampler import Sampler
from tests.cases import METHODS, missing

SIZE = 16
MEASUREMENTS = {"mri": CartesianMRI(acceleration=3), "ct": SparseViewCT(n_views=7, n_full=24)}
ANYWHERE = {name: one for name, one in METHODS.items() if not isinstance(one, LinearInterpolation | NMAR)}
"""Those that need metal in the data have a file of their own (tests/scoreinv/baselines/test_metal.py)."""
each_method = pytest.mark.parametrize("method", ANYWHERE.values(), ids=ANYWHERE.keys())
each_modality = pytest.mark.parametrize("modality", MEASUREMENTS)


def images(n: int) -> torch.Tensor:
    phantom = torch.from_numpy(rasterise(SHEPP_LOGAN, SIZE)).float()
    return torch.stack([phantom.roll(i, 0) * (1 - 0.05 * i) for i in range(n)])[:, None]


def problem(modality: str, n: int) -> InverseProblem:
    operator = MEASUREMENTS[modality].operator(SIZE)
    return InverseProblem(operator, operator.forward(images(n)))


def unequal_problem(modality: str) -> InverseProblem:
    """Three slices, the first noiseless, each of the others with more noise than the one before."""
    clean = problem(modality, 3)
    noise_std = torch.tensor([0.0, 0.02, 0.3]) * clean.operator.norm()
    noise = Noise(0, ["0", "1", "2"], purpose="measurement").normal_like(clean.y)
    return InverseProblem(clean.operator, clean.y + spread(noise_std, clean.y) * noise, noise_std)


def in_double(case: InverseProblem) -> InverseProblem:
    """So that rounding, which differs from machine to machine, hides nothing."""
    y = case.y.to(torch.complex128 if case.y.is_complex() else torch.float64)
    return InverseProblem(case.operator, y, case.noise_std)


def prior() -> Model:
    """A denoiser for who calls it with an image, a reconstructor for who calls it with a problem."""
    denoiser = MixtureDenoiser(images(6)[:, 0], std=0.03)

    def model(given: torch.Tensor | InverseProblem, *sigma: torch.Tensor) -> torch.Tensor:
        is_problem = isinstance(given, InverseProblem)
        return given.operator.direct(given.y) if is_problem else denoiser(given, *sigma)

    return model


def solve(method: Method, modality: str, names: list[str], *, seed: int = 0) -> torch.Tensor:
    places = [int(name) for name in names]
    whole = problem(modality, max(places) + 1)
    part = InverseProblem(whole.operator, whole.y[places])
    return reconstruct(method, part, prior(), noise=Noise(seed, names)).x


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a worker: with several, the order of sums hangs on the batch; some methods make much of the last bit."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def rounding(method: Method) -> float:
    """What another order of sums may change: these make more of it in a corner that CT hardly sees."""
    return 3e-4 if method.kind in ("daps", "diffpir", "dpir") else 1e-4


def test_every_method_has_a_case():
    # Which is made elsewhere.
    assert missing(METHODS, AnyMethod) == {"External"}


@each_modality
@each_method
def test_a_batch_of_one_equals_a_batch_of_eight(method: Method, modality: str):
    names = [str(i) for i in range(8)]
    together = solve(method, modality, names)
    for name in ("0", "5"):
        alone = solve(method, modality, [name])
        torch.testing.assert_close(alone[0], together[int(name)], rtol=1e-4, atol=rounding(method))


@each_modality
@each_method
def test_every_image_has_its_own_noise_whatever_that_of_its_neighbours(method: Method, modality: str):
    whole, names = in_double(unequal_problem(modality)), ["0", "1", "2"]
    together = reconstruct(method, whole, prior(), noise=Noise(0, names)).x
    for place, name in enumerate(names):
        alone = InverseProblem(whole.operator, whole.y[place : place + 1], whole.noise_std[place : place + 1])
        x = reconstruct(method, alone, prior(), noise=Noise(0, [name])).x
        torch.testing.assert_close(x[0], together[place], rtol=1e-6, atol=1e-6)


@each_modality
@each_method
def test_a_number_means_the_same_as_one_for_each_image(method: Method, modality: str):
    case = problem(modality, 2)
    pair = [case.with_noise_std(noise_std) for noise_std in (0.1, torch.full((2,), 0.1))]
    one, other = (reconstruct(method, each, prior(), noise=Noise(0, ["0", "1"])).x for each in pair)
    assert torch.equal(one, other)


@each_modality
@each_method
def test_the_order_of_a_batch_does_not_matter(method: Method, modality: str):
    forwards, backwards = solve(method, modality, ["0", "1", "2"]), solve(method, modality, ["2", "1", "0"])
    torch.testing.assert_close(forwards, backwards.flip(0), rtol=1e-4, atol=1e-4)


@each_modality
@each_method
def test_the_same_seed_gives_the_same_image_and_another_one_does_not(method: Method, modality: str):
    first, again, other = (solve(method, modality, ["0"], seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != method.is_stochastic


@each_modality
@each_method
def test_network_calls_are_counted_and_as_promised(method: Method, modality: str):
    steps = list(run(method, problem(modality, 1), prior(), noise=Noise(0, ["0"])))
    assert steps[-1].nfe == method.n_calls
    assert [step.nfe for step in steps] == sorted(step.nfe for step in steps)
    assert steps[-1].sigma == 0.0


@each_modality
@each_method
def test_the_result_is_a_finite_image_and_the_data_are_left_alone(method: Method, modality: str):
    case = problem(modality, 2)
    before = case.y.clone()
    x = reconstruct(method, case, prior(), noise=Noise(0, ["0", "1"])).x
    assert x.shape == (2, 1, SIZE, SIZE)
    assert x.isfinite().all()
    assert torch.equal(case.y, before)


@each_method
def test_options_survive_json(method: Method):
    again = type(method).model_validate_json(method.model_dump_json())
    assert again == method
    assert again.digest() == method.digest()


@each_modality
@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if isinstance(m, Sampler)])
def test_samplers_beat_the_direct_reconstruction_with_a_good_prior(name: str, modality: str):
    # Of most images: the prior's modes are near each other, and now and then a sample falls into a neighbour's.
    places, samples = [0, 1, 2] * 3, [0, 0, 0, 1, 1, 1, 2, 2, 2]
    case, truth = problem(modality, 3).part(torch.tensor(places)), images(3)[places]
    noise = Noise(0, [str(place) for place in places], samples)
    method = METHODS[name]
    finer = method.grid.model_copy(update={"n_levels": 60})  # type: ignore[attr-defined]
    x = reconstruct(method.model_copy(update={"grid": finer}), case, prior(), noise=noise).x
    ours, direct = (norms(image - truth).flatten() for image in (x, case.operator.direct(case.y)))
    assert float((ours / direct).median()) < 0.75**0.5


def test_a_sampler_without_a_prior_is_refused():
    with pytest.raises(ValueError, match="needs a prior"):
        reconstruct(METHODS["dds"], problem("ct", 1), noise=Noise(0, ["0"]))


def test_algorithm_2_refuses_an_operator_without_a_transform():
    from scoreinv.operators.linear import LinearOperator

    class Blur(LinearOperator):
        image_shape = (1, SIZE, SIZE)
        data_shape = (1, SIZE, SIZE)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + x.roll(1, -1)) / 2

    case = InverseProblem(Blur(), images(1))
    with pytest.raises(TypeError, match="use DDS"):
        reconstruct(METHODS["projection"], case, prior(), noise=Noise(0, ["0"]))
    assert reconstruct(METHODS["dds"], case, prior(), noise=Noise(0, ["0"])).x.isfinite().all()
