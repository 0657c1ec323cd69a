#!/bin/sh
# Register pool, queue and deployments at the Prefect server that PREFECT_API_URL names, as often as wanted.
set -eu
prefect work-pool create scoreinv --type process --overwrite
# An operator may have changed the queue's limit, so one that is there stays as it is.
prefect work-queue inspect accelerator --pool scoreinv > /dev/null 2>&1 ||
    prefect work-queue create accelerator --pool scoreinv --limit 1
prefect --no-prompt deploy --all --prefect-file deployments/prefect.yaml
