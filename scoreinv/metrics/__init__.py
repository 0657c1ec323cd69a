"""Metrics: how near images are to the truth, and how honest posterior samples are about it."""
