"""Baselines: methods without a prior, one file each."""

from scoreinv.baselines.direct import Direct

AnyBaseline = Direct
