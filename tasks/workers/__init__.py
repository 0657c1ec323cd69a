"""What runs on a Dask worker or under torchrun: one shard, or one process of a training.

Nothing here imports Prefect: a worker starts faster, and never looks for a server.
"""
