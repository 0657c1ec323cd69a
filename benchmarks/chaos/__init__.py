"""What is lost when machines, processes, disks, clocks and files fail under a run, as ``python -m benchmarks.chaos``.

A round makes faults of one kind, drawn from a seed, and gives the same command again until it is done. In the end
the workspace must hold what an undisturbed run leaves: the same references, values of slices and scores, each slice
once, all of it whole, no process and no temporary file left; and what commands said must be explanations.
"""
