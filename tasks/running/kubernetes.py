"""Dask workers as pods of Kubernetes, by the operator of dask-kubernetes, which replaces those that end.

The operator must be installed in the cluster (https://kubernetes.dask.org). What passes between here and the scheduler
goes through the cluster's API; within the cluster it is not encrypted, as the operator speaks tcp only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from uuid import uuid4

from pydantic import Field

from scoreinv.errors import MissingPackage
from scoreinv.spec import Spec
from tasks.running.assignment import Assignment, pairs
from tasks.running.stalls import tried_again
from tasks.workers.setup import KEEP_MEMORY

OPERATOR_SECONDS = 300
"""How long the scheduler's pod may take to start: images are large."""


class KubernetesWorkers(Spec):
    """Dask scheduler and workers as pods of Kubernetes, started for the run; the workspace is a bucket or a volume."""

    kind: Literal["kubernetes"] = "kubernetes"
    image: str = Field(min_length=1, description="Container image with the scoreinv of this machine.")
    n_workers: int = Field(2, ge=1, le=1024, description="Worker pods, from the beginning of the run to its end.")
    namespace: str = Field("", description="Namespace; empty: the current one.")
    service_account: str = Field("", description="Of the workers, for buckets for example; empty: the default one.")
    cpus: float = Field(4, gt=0, description="CPUs of each worker, all for numerical libraries.")
    memory: str = Field("16Gi", pattern=r"^\d+(Mi|Gi|Ti|M|G|T)$", description="Memory of each worker.")
    gpus: int = Field(1, ge=0, le=1, title="GPUs of each worker", description="One (nvidia.com/gpu), or none.")
    environment: tuple[Assignment, ...] = Field((), description="NAME=value for the workers, no passwords.")
    secrets: tuple[str, ...] = Field((), description="Names of secrets whose keys become environment variables.")
    claims: tuple[Assignment, ...] = Field((), description="CLAIM=/path: volume claims at paths of the workers.")
    node_selector: tuple[Assignment, ...] = Field((), description="LABEL=value of the nodes that may run workers.")
    patience_minutes: float = Field(30.0, gt=0, description="How long the first worker may take to come.")

    idle_hours: float = Field(
        12.0, gt=0, description="Pods are removed after so long without work: those of a run that was killed, for one."
    )

    def count(self) -> int:
        """How many workers there will be."""
        return self.n_workers


@contextmanager
def pods(cluster: KubernetesWorkers) -> Iterator[str]:
    """The address of a scheduler with its workers, which are removed after the block.

    Raises:
        MissingPackage: without dask-kubernetes.
        ConnectionError: if no cluster, or no operator in it, answers.
    """
    try:
        import kr8s
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise MissingPackage(
            "cluster.kind=kubernetes needs dask-kubernetes: pip install 'scoreinv[kubernetes]'"
        ) from error
    try:
        # It fails where no cluster answers, before there is anything that would have to be removed.
        kr8s.api(namespace=cluster.namespace or None)
        running = tried_again(
            lambda: KubeCluster(
                custom_cluster_spec=manifest(cluster, f"scoreinv-{uuid4().hex[:8]}"),
                namespace=cluster.namespace or None,
                resource_timeout=OPERATOR_SECONDS,
                quiet=True,
            )
        )
    except Exception as error:  # of many classes: of httpx, of kr8s, of dask-kubernetes
        raise ConnectionError(f"no Dask cluster could be started on Kubernetes: {str(error) or repr(error)}") from error
    with running:
        yield running.scheduler_address


def manifest(cluster: KubernetesWorkers, name: str) -> dict[str, Any]:
    """The resource DaskCluster (kubernetes.dask.org/v1) that the operator makes scheduler and workers of."""
    workers = {"replicas": cluster.n_workers, "spec": _worker(cluster)}
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name},
        "spec": {
            "worker": workers,
            "scheduler": _scheduler(cluster, name),
            "idleTimeout": int(3600 * cluster.idle_hours),
        },
    }


def _worker(cluster: KubernetesWorkers) -> dict[str, Any]:
    threads = {name: str(max(1, int(cluster.cpus))) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = {**KEEP_MEMORY, **threads, **pairs(cluster.environment)}
    amounts = {"cpu": f"{cluster.cpus:g}", "memory": cluster.memory}
    amounts |= {"nvidia.com/gpu": str(cluster.gpus)} if cluster.gpus else {}
    volumes = {f"volume-{number}": pair for number, pair in enumerate(pairs(cluster.claims).items())}
    # The operator sets both.
    command = "python -m tasks.workers.serve $(DASK_SCHEDULER_ADDRESS) --name $(DASK_WORKER_NAME)"
    pod: dict[str, Any] = {
        "containers": [
            {
                "name": "worker",
                "image": cluster.image,
                "args": command.split(),
                "env": [{"name": name, "value": value} for name, value in environment.items()],
                "envFrom": [{"secretRef": {"name": name}} for name in cluster.secrets],
                "resources": {"requests": amounts, "limits": amounts},
                "volumeMounts": [{"name": volume, "mountPath": path} for volume, (_, path) in volumes.items()],
            }
        ],
        "volumes": [
            {"name": volume, "persistentVolumeClaim": {"claimName": claim}} for volume, (claim, _) in volumes.items()
        ],
        "nodeSelector": pairs(cluster.node_selector),
    }
    return pod | ({"serviceAccountName": cluster.service_account} if cluster.service_account else {})


def _scheduler(cluster: KubernetesWorkers, name: str) -> dict[str, Any]:
    ports = {"tcp-comm": 8786, "http-dashboard": 8787}
    probe = {"httpGet": {"port": "http-dashboard", "path": "/health"}, "periodSeconds": 5}
    container = {
        "name": "scheduler",
        "image": cluster.image,
        "args": ["dask", "scheduler", "--host", "0.0.0.0"],
        # A worker that is moved has not killed its shard.
        "env": [{"name": "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "value": "1"}],
        "ports": [{"name": port, "containerPort": number, "protocol": "TCP"} for port, number in ports.items()],
        "readinessProbe": probe,
        "livenessProbe": probe | {"initialDelaySeconds": 30},
    }
    service = {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
        "ports": [
            {"name": port, "protocol": "TCP", "port": number, "targetPort": port} for port, number in ports.items()
        ],
    }
    return {"spec": {"containers": [container]}, "service": service}
