"""How work is run: shards on the workers of a cluster, and the processes of this machine."""
