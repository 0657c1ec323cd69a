"""Medical images from too few measurements, with score-based generative models.

The library: operators, score models, samplers, baselines, metrics. It knows no files, no Dask and
no Prefect. This module imports nothing, so that ``import scoreinv.spec`` stays cheap.
"""

__version__ = "0.1.0"
