"""One case or more for every member of every union; the contract tests run over these tables.

A member without a case fails a test (``missing``), so whoever adds a member adds a case here.
"""

from typing import Any, get_args

from scoreinv.baselines import CGLS, NMAR, Direct, Learned, LinearInterpolation, TotalVariation, Wavelet
from scoreinv.measurement import GaussianNoise, MeasurementSpec
from scoreinv.nets import NCSNpp, UNet
from scoreinv.nets.patch_discriminator import PatchDiscriminator
from scoreinv.operators.ct import LimitedAngleCT, SparseViewCT
from scoreinv.operators.metal_ct import MetalCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import Method
from scoreinv.reconstructors import (
    CascadeDenseNet,
    DuDoRNet,
    Neumann,
    ReconstructorSpec,
    SinogramGAN,
    SinPrn,
    Unrolled,
)
from scoreinv.samplers import (
    DAPS,
    DDS,
    DPIR,
    DPS,
    Bregman,
    DiffPIR,
    Heun,
    Langevin,
    LangevinProjection,
    PiGDM,
    PredictorCorrector,
    Projection,
    REDDiff,
    ScoreSDE,
)
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.renoise import Renoise
from scoreinv.samplers.start import GradedTVStart, TVStart
from scoreinv.spec import Spec
from scoreinv.training.objectives import Adversarial, AnyObjective, Denoising, Supervised
from storage.sources import DicomSource, NiftiSource, OpenKBPSource, PhantomSource, SeveralSources, Source
from tasks.running.cluster import Inline, KubernetesWorkers, LocalWorkers, RemoteWorkers, SlurmWorkers

MEASUREMENTS: dict[str, MeasurementSpec] = {
    "mri_paper": CartesianMRI(acceleration=4),
    "mri_paper_faithful": CartesianMRI(acceleration=4, paper_faithful=True),
    "mri_equispaced": CartesianMRI(acceleration=3, pattern="equispaced", n_acs=3),
    "mri_random": CartesianMRI(acceleration=3, pattern="random", seed=7),
    "mri_variable_density": CartesianMRI(acceleration=3, pattern="variable_density", seed=7),
    "mri_full": CartesianMRI(acceleration=1),
    "ct_sparse": SparseViewCT(n_views=9),
    "ct_sparse_paper": SparseViewCT(n_views=9, n_full=32, views="paper"),
    "ct_three_views": SparseViewCT(n_views=3),
    "ct_limited_angle": LimitedAngleCT(n_views=10, arc_degrees=100),
    "ct_metal": MetalCT(n_views=12),
}

SHORT = SigmaGrid(n_levels=12, sigma_max=3.0, sigma_min=0.02, spacing="geometric")

METHODS: dict[str, Method] = {
    "dds": DDS(grid=SigmaGrid(n_levels=10)),
    "dds_deterministic": DDS(grid=SigmaGrid(n_levels=10), renoise=Renoise(eta=0.0)),
    "dds_from_tv": DDS(grid=SigmaGrid(n_levels=10), start=GradedTVStart(n_iters=20, factor=4.0)),
    "dds_mirrored_and_cool": DDS(
        grid=SigmaGrid(n_levels=10),
        start=TVStart(n_iters=20),
        symmetry="flip",
        data_floor=1e-3,
        renoise=Renoise(temperature=0.7, fresh_above=0.1),
    ),
    "diffpir": DiffPIR(grid=SigmaGrid(n_levels=10)),
    "diffpir_without_fresh_noise": DiffPIR(grid=SigmaGrid(n_levels=10), renoise=Renoise(eta=0.0), n_cg=5),
    "dpir": DPIR(grid=SigmaGrid(n_levels=10, sigma_max=0.5)),
    "dpir_from_tv": DPIR(grid=SigmaGrid(n_levels=10, sigma_max=0.5), start=GradedTVStart(n_iters=20), symmetry="flip"),
    "bregman": Bregman(grid=SigmaGrid(n_levels=10, sigma_max=0.5, sigma_min=0.01)),
    "bregman_from_tv": Bregman(
        grid=SigmaGrid(n_levels=10, sigma_max=0.5, sigma_min=0.01), start=GradedTVStart(n_iters=20), symmetry="flip"
    ),
    "daps": DAPS(grid=SigmaGrid(n_levels=10)),
    "daps_published": DAPS(grid=SigmaGrid(n_levels=10), n_ode=2, split="published"),
    "red_diff": REDDiff(grid=SigmaGrid(n_levels=10, sigma_max=1.0)),
    "projection": Projection(grid=SHORT, strength=0.9, snr=0.16),
    "projection_without_corrector": Projection(grid=SHORT, strength=0.9, snr=0.0),
    "projection_fourier_slice": Projection(grid=SHORT, strength=0.9, snr=0.16, transform="fourier_slice"),
    "score_sde": ScoreSDE(grid=SHORT, rate=0.1, snr=0.6),
    "score_sde_without_corrector": ScoreSDE(grid=SHORT, rate=0.1, snr=0.0),
    "langevin": Langevin(grid=SHORT),
    "langevin_projection": LangevinProjection(grid=SHORT),
    "langevin_projection_fourier_slice": LangevinProjection(grid=SHORT, transform="fourier_slice"),
    "predictor_corrector": PredictorCorrector(grid=SHORT),
    "heun": Heun(grid=SHORT),
    "direct": Direct(),
    "dps": DPS(grid=SigmaGrid(n_levels=10, sigma_max=1.0)),
    "dps_deterministic": DPS(grid=SigmaGrid(n_levels=10, sigma_max=1.0), renoise=Renoise(eta=0.0)),
    "pigdm": PiGDM(grid=SigmaGrid(n_levels=10)),
    "pigdm_deterministic": PiGDM(grid=SigmaGrid(n_levels=10), renoise=Renoise(eta=0.0)),
    "tv": TotalVariation(n_iters=20),
    "wavelet": Wavelet(n_iters=20),
    "cgls": CGLS(n_iters=5),
    "learned": Learned(),
    "learned_and_data": Learned(n_cg=3),
    "wavelet_smooth": Wavelet(n_iters=20, family="sym4"),
    "li": LinearInterpolation(),
    "nmar": NMAR(),
}

SOURCES: dict[str, Source] = {
    "dicom": DicomSource(path="scans"),
    "nifti": NiftiSource(path="scans"),
    "openkbp": OpenKBPSource(path="provided-data"),
    "phantom": PhantomSource(),
    "several": SeveralSources(sources=(PhantomSource(seed=1), PhantomSource(seed=2))),
}

CLUSTERS: dict[str, Spec] = {
    "local": LocalWorkers(n_workers=3),
    "inline": Inline(),
    "remote": RemoteWorkers(address="tcp://10.0.0.1:8786"),
    "slurm": SlurmWorkers(queue="gpu"),
    "kubernetes": KubernetesWorkers(image="registry/scoreinv:1"),
}

NETWORKS: dict[str, Spec] = {
    "unet": UNet(n_features=16, channel_multipliers=(1, 2), n_blocks=1),
    "ncsnpp": NCSNpp(),
}

SMALL_UNET = UNet(n_features=8, channel_multipliers=(1, 2), n_middle=0)

RECONSTRUCTORS: dict[str, ReconstructorSpec] = {
    "unrolled": Unrolled(n_passes=2, refiner=SMALL_UNET),
    "neumann": Neumann(n_blocks=3, n_features=8),
    "cascade_densenet": CascadeDenseNet(n_cascades=2, n_growth=8, dilations=(1, 2)),
    "dudornet": DuDoRNet(n_recurrences=2, n_features=8, n_blocks=2, dilations=(1, 2)),
    "sinogram_gan": SinogramGAN(n_full=36, n_features=8),
    "sin_prn": SinPrn(n_full=36, sinogram=SMALL_UNET.model_copy(update={"has_position": False}), image=SMALL_UNET),
}

OBJECTIVES: dict[str, AnyObjective] = {
    "denoising": Denoising(),
    "denoising_of_crops": Denoising(crop=8),
    "supervised_mri": Supervised(measurement=CartesianMRI(acceleration=4)),
    "supervised_ct": Supervised(measurement=SparseViewCT(n_views=9, noise=GaussianNoise(noise_std=0.1)), l1_share=0.5),
    "adversarial": Adversarial(
        supervised=Supervised(measurement=CartesianMRI(acceleration=4)), judge=PatchDiscriminator(n_layers=1)
    ),
}


def missing(cases: dict[str, Any], union: Any) -> set[str]:
    """The names of the members of a discriminated union (Annotated[A | B, ...]) that no case covers."""
    alternatives = get_args(union)[0]
    members = get_args(alternatives) or (alternatives,)
    covered = {type(case) for case in cases.values()}
    return {member.__name__ for member in members if member not in covered}
