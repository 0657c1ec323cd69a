"""One run on one GPU, of at most ten minutes: what it computes how fast, whether it is right, and a training.

    python -m benchmarks.gpu pack RECIPE.yaml --workspace workspace --to PACKED         here
    cd PACKED && python -m benchmarks.gpu run . --to RESULT --seconds 580               on the machine with the GPU
    python -m benchmarks.gpu show RESULT                                                here: benchmarks/results/gpu.md
    python -m benchmarks.gpu publish RESULT --workspace workspace                       here: priors/DIGEST

``pack`` puts the images of a training (what ``scoreinv train`` takes), the methods and the library's core into one
folder; on the other machine torch, numpy, pydantic and safetensors are enough. Every part of a run is a process of its
own with a time limit: one that fails, or runs over it, is reported as such and stops nothing. Results are written line
by line, so that a run which is killed keeps what it had. A training goes on from an earlier result with ``--earlier``.
Without a GPU everything runs too, in small with ``--small``.
"""
