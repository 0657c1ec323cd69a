"""The exact denoisers agree with automatic differentiation; preconditioned networks recover what they are told."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from scoreinv.denoiser import (
    AnyPreconditioning,
    Denoiser,
    EDMPreconditioning,
    GaussianDenoiser,
    MixtureDenoiser,
    ScoreModel,
    VEPreconditioning,
    VPPreconditioning,
    log_uniform_sigmas,
    mirrored,
    score,
)
from scoreinv.nets.ncsnpp import NCSNpp
from scoreinv.nets.position import position_of
from scoreinv.sde import VP

SIDE = 4
SIGMAS = torch.tensor([0.01, 0.3, 2.0, 50.0], dtype=torch.float64)
PRECONDITIONINGS = [EDMPreconditioning(mean=0.3, sigma_data=0.2), VEPreconditioning(mean=0.1), VPPreconditioning()]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def gaussian(n: int = SIDE**2) -> GaussianDenoiser:
    """A prior with a dense covariance of condition number about 1e3."""
    root = torch.randn(n, n, dtype=torch.float64) / math.sqrt(n)
    covariance = root @ root.T + 1e-2 * torch.eye(n, dtype=torch.float64)
    return GaussianDenoiser(torch.randn(SIDE, SIDE, dtype=torch.float64), covariance)


def batch(n: int = 4) -> Tensor:
    """Standard normal images in double precision."""
    return torch.randn(n, 1, SIDE, SIDE, dtype=torch.float64)


class Answer(nn.Module):
    """A network that returns a given answer and remembers what it was asked."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.x, self.label = x, label
        return self.answer


def test_gaussian_denoiser_solves_the_normal_equations() -> None:
    prior, x = gaussian(), batch()
    eye, mean = torch.eye(SIDE**2, dtype=torch.float64), prior.mean.flatten()
    dense = [
        mean + prior.covariance @ torch.linalg.solve(prior.covariance + sigma**2 * eye, image.flatten() - mean)
        for image, sigma in zip(x, SIGMAS, strict=True)
    ]
    torch.testing.assert_close(prior(x, SIGMAS).flatten(1), torch.stack(dense))


def test_gaussian_score_is_the_gradient_of_the_log_density() -> None:
    prior, x = gaussian(), batch().requires_grad_()
    covariance = prior.covariance + SIGMAS[:, None, None] ** 2 * torch.eye(SIDE**2, dtype=torch.float64)
    density: Tensor = MultivariateNormal(prior.mean.flatten(), covariance).log_prob(x.flatten(1))  # type: ignore[no-untyped-call]
    (gradient,) = torch.autograd.grad(density.sum(), x)
    torch.testing.assert_close(score(prior, x.detach(), SIGMAS), gradient)


def test_mixture_score_is_the_gradient_of_the_log_density() -> None:
    means, std = torch.randn(3, SIDE, SIDE, dtype=torch.float64), 0.4
    x = batch().requires_grad_()
    (gradient,) = torch.autograd.grad(_mixture_log_density(x, means, std).sum(), x)
    torch.testing.assert_close(score(MixtureDenoiser(means, std), x.detach(), SIGMAS), gradient)


def _mixture_log_density(x: Tensor, means: Tensor, std: float) -> Tensor:
    difference = x.flatten(1)[:, None] - means.flatten(1)
    return torch.logsumexp(-0.5 * difference.square().sum(2) / (std**2 + SIGMAS[:, None] ** 2), dim=1)


def test_mixture_tells_close_components_apart_in_single_precision() -> None:
    """Images that differ by little beside their own size, in a batch large enough for fast distances."""
    means = torch.rand(1, 32, 32, dtype=torch.float64) + 0.002 * torch.randn(40, 32, 32, dtype=torch.float64)
    x = means.unsqueeze(1) + 0.02 * torch.randn(40, 1, 32, 32, dtype=torch.float64)
    denoiser, sigma = MixtureDenoiser(means, 0.01), torch.tensor(0.02)
    exact, single = denoiser(x, sigma.double()), denoiser(x.float(), sigma)
    assert (exact - single).abs().max() < 1e-5


def test_one_sigma_serves_a_whole_batch() -> None:
    x, sigma = batch(), torch.tensor(0.5, dtype=torch.float64)
    denoisers: list[Denoiser] = [gaussian(), MixtureDenoiser(torch.randn(2, SIDE, SIDE), 0.3)]
    for denoiser in denoisers:
        torch.testing.assert_close(denoiser(x, sigma), denoiser(x, sigma.expand(4)))


def test_posterior_agrees_with_its_information_form() -> None:
    prior, noise_std = gaussian(), 0.1
    matrix, y = torch.randn(6, SIDE**2, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    mean, covariance = prior.posterior(matrix, y, noise_std)
    precision = torch.linalg.inv(prior.covariance)
    expected = torch.linalg.inv(precision + matrix.T @ matrix / noise_std**2)
    torch.testing.assert_close(covariance, expected)
    information = precision @ prior.mean.flatten() + matrix.T @ y / noise_std**2
    torch.testing.assert_close(mean, expected @ information)


def test_a_measurement_of_the_whole_image_makes_the_posterior_mean_the_denoised_image() -> None:
    prior, x = gaussian(), batch(1)
    mean, _ = prior.posterior(torch.eye(SIDE**2, dtype=torch.float64), x.flatten(), 0.3)
    torch.testing.assert_close(mean, prior(x, torch.tensor([0.3], dtype=torch.float64)).flatten())


def test_prior_samples_have_the_priors_moments() -> None:
    prior, n = gaussian(), 50_000
    samples = prior.sample(batch(n)).flatten(1)
    scale = prior.covariance.diagonal().max().item()
    assert (samples.mean(0) - prior.mean.flatten()).abs().max() < 5 * math.sqrt(scale / n)
    assert (samples.T.cov() - prior.covariance).abs().max() < 7 * scale / math.sqrt(n)


def test_edm_without_a_network_goes_from_the_image_to_the_mean() -> None:
    model = ScoreModel(Answer(torch.zeros(1, 1, SIDE, SIDE)), EDMPreconditioning(mean=0.3, sigma_data=0.2))
    x = batch(1).float()
    torch.testing.assert_close(model(x, torch.tensor(1e-4)), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(model(x, torch.tensor(1e4)), torch.full_like(x, 0.3), atol=1e-5, rtol=0)
    torch.testing.assert_close(model(x, torch.tensor(0.2)), (x + 0.3) / 2)


@pytest.mark.parametrize("sigma", [0.01, 0.2, 5.0, 80.0])
def test_edm_asks_for_and_about_unit_variance(sigma: float) -> None:
    preconditioning, n = EDMPreconditioning(mean=0.3, sigma_data=0.2), 200_000
    clean = 0.3 + 0.2 * torch.randn(n, 1, 1, 1, dtype=torch.float64)
    x = clean + sigma * torch.randn(n, 1, 1, 1, dtype=torch.float64)
    c = preconditioning.coefficients(torch.tensor([sigma], dtype=torch.float64))
    asked, target = c.input * (x - 0.3), ((clean - 0.3) - c.skip * (x - 0.3)) / c.out
    assert asked.std().item() == pytest.approx(1, abs=0.01)
    assert target.std().item() == pytest.approx(1, abs=0.01)
    assert c.label.item() == pytest.approx(math.log(sigma) / 4)


@pytest.mark.parametrize("preconditioning", [VEPreconditioning(), VEPreconditioning(mean=0.4), VPPreconditioning()])
def test_a_network_that_knows_the_noise_recovers_the_image(preconditioning: AnyPreconditioning) -> None:
    clean, noise, sigma = torch.rand(4, 1, SIDE, SIDE), torch.randn(4, 1, SIDE, SIDE), SIGMAS.float()
    x = clean + sigma.view(-1, 1, 1, 1) * noise
    denoised = ScoreModel(Answer(-noise), preconditioning)(x, sigma)
    torch.testing.assert_close(denoised, clean, atol=2e-5, rtol=0)


def test_ve_hands_the_network_the_image_and_log_sigma() -> None:
    x, sigma, network = batch().float(), SIGMAS.float(), Answer(torch.zeros(4, 1, SIDE, SIDE))
    ScoreModel(network, VEPreconditioning())(x, sigma)
    assert torch.equal(network.x, x)
    torch.testing.assert_close(network.label, sigma.log())


def test_vp_hands_the_network_the_scaled_image_and_999_t() -> None:
    t = torch.tensor([0.1, 0.5, 0.9, 1.0])
    x, network = batch().float(), Answer(torch.zeros(4, 1, SIDE, SIDE))
    ScoreModel(network, VPPreconditioning())(x, VP().sigma(t))
    torch.testing.assert_close(network.x, VP().scale(t).view(-1, 1, 1, 1) * x)
    torch.testing.assert_close(network.label, 999 * t)


def test_a_model_is_never_asked_for_a_level_below_those_it_was_trained_on() -> None:
    model, x = ScoreModel(_network(), EDMPreconditioning()), torch.rand(3, 1, 8, 8)
    model.sigma_min = 0.02
    asked = torch.tensor([0.001, 0.02, 0.3])
    expected = torch.tensor([0.02, 0.02, 0.3])
    assert torch.equal(model(x, asked), model(x, expected))
    assert not torch.equal(model(x, asked)[2], model(x, torch.full((3,), 0.02))[2])


class Told(nn.Module):
    """Keeps what it is told besides the image and the level."""

    def forward(self, x: Tensor, label: Tensor, *position: Tensor) -> Tensor:
        self.position = position
        return torch.zeros_like(x)


def test_a_network_is_told_the_position_in_images_of_other_sizes_and_in_crops_alone() -> None:
    network, x, sigma = Told(), torch.zeros(2, 1, 8, 8), torch.tensor(1.0)
    for size in (None, 8):
        ScoreModel(network, EDMPreconditioning(), size=size)(x, sigma)
        assert network.position == ()
    ScoreModel(network, EDMPreconditioning(), size=16)(x, sigma)
    assert torch.equal(network.position[0], position_of(x, 16))
    place = torch.tensor([[4.0, -4.0], [0.0, 2.0]])
    ScoreModel(network, EDMPreconditioning(), size=16)(x, sigma, place)
    assert torch.equal(network.position[0], position_of(x, 16, place))


def test_a_mirrored_denoiser_is_the_denoiser_of_the_mirrored_prior() -> None:
    prior, x, sigma = gaussian(), batch(), SIGMAS
    places = torch.arange(SIDE**2).view(SIDE, SIDE).flip(-1).flatten()
    other = GaussianDenoiser(prior.mean.flip(-1), prior.covariance[places][:, places])
    torch.testing.assert_close(mirrored(prior)(x, sigma), other(x, sigma))


@pytest.mark.parametrize("preconditioning", PRECONDITIONINGS, ids=lambda p: p.kind)
def test_a_models_score_is_tweedies(preconditioning: AnyPreconditioning) -> None:
    model = ScoreModel(_network(), preconditioning)
    x, sigma = torch.randn(4, 1, 8, 8), SIGMAS.float()
    expected = (model(x, sigma) - x) / sigma.view(-1, 1, 1, 1) ** 2
    torch.testing.assert_close(score(model, x, sigma), expected)


@pytest.mark.parametrize("preconditioning", PRECONDITIONINGS, ids=lambda p: p.kind)
def test_bfloat16_costs_less_than_3_percent_of_the_networks_share(preconditioning: AnyPreconditioning) -> None:
    """Only the network runs in half precision: at a small sigma the denoised image is as exact as ever."""
    model, sigma = ScoreModel(_network(), preconditioning), SIGMAS.float()
    x = torch.rand(4, 1, 8, 8) + sigma.view(-1, 1, 1, 1) * torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        exact = model(x, sigma)
        model.autocast_dtype = torch.bfloat16
        rough = model(x, sigma)
    c = preconditioning.coefficients(sigma)
    share = exact - preconditioning.mean - c.skip.view(-1, 1, 1, 1) * (x - preconditioning.mean)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert ((rough - exact).flatten(1).norm(dim=1) < 0.03 * share.flatten(1).norm(dim=1)).all()


def _network() -> nn.Module:
    """NCSN++ with weights as after some training."""
    network = NCSNpp(image_size=8, n_features=8, channel_multipliers=(1, 2), n_blocks=1, attention_sizes=(4,)).build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def test_log_uniform_sigmas_grow_by_one_factor() -> None:
    sigmas = log_uniform_sigmas(5, 0.01, 100)
    torch.testing.assert_close(sigmas, torch.tensor([0.01, 0.1, 1.0, 10.0, 100.0]))
