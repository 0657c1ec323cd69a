"""Workers as pods of Kubernetes: what the operator is given, and whether it is what the operator takes."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from scoreinv.errors import MissingPackage
from tasks.running.cluster import KubernetesWorkers, connect
from tasks.running.kubernetes import manifest

WHOLE = KubernetesWorkers(
    image="registry/scoreinv:1",
    n_workers=5,
    service_account="reader",
    cpus=6,
    memory="24Gi",
    environment=("SCOREINV_PROJECTORS=/local", "A=b=c"),
    secrets=("bucket",),
    claims=("data=/data",),
    node_selector=("gpu=a100",),
)


def test_pods_have_what_the_options_say() -> None:
    spec = manifest(WHOLE, "one")["spec"]
    pod = spec["worker"]["spec"]
    (container,) = pod["containers"]
    command = ["python", "-m", "tasks.workers.serve", "$(DASK_SCHEDULER_ADDRESS)", "--name", "$(DASK_WORKER_NAME)"]
    assert container["args"] == command
    amounts = {"cpu": "6", "memory": "24Gi", "nvidia.com/gpu": "1"}
    assert container["resources"] == {"requests": amounts, "limits": amounts}
    given = {one["name"]: one["value"] for one in container["env"]}
    assert (given["SCOREINV_PROJECTORS"], given["A"], given["OMP_NUM_THREADS"]) == ("/local", "b=c", "6")
    assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    assert pod["volumes"] == [{"name": "volume-0", "persistentVolumeClaim": {"claimName": "data"}}]
    assert container["volumeMounts"] == [{"name": "volume-0", "mountPath": "/data"}]
    assert (pod["serviceAccountName"], pod["nodeSelector"]) == ("reader", {"gpu": "a100"})
    assert spec["worker"]["replicas"] == 5
    assert {one["image"] for part in ("worker", "scheduler") for one in images(spec[part])} == {"registry/scoreinv:1"}
    assert spec["scheduler"]["service"]["selector"]["dask.org/cluster-name"] == "one"
    assert "resources" not in spec["scheduler"]["spec"]["containers"][0], "the scheduler takes no GPU"


def images(part: dict[str, Any]) -> list[dict[str, Any]]:
    return list(part["spec"]["containers"])


def test_a_worker_without_gpu_asks_for_none() -> None:
    pod = manifest(KubernetesWorkers(image="x", gpus=0), "one")["spec"]["worker"]["spec"]
    assert set(pod["containers"][0]["resources"]["limits"]) == {"cpu", "memory"}
    assert "serviceAccountName" not in pod


@pytest.mark.parametrize("cluster", [WHOLE, KubernetesWorkers(image="x", gpus=0)], ids=["whole", "defaults"])
def test_the_operator_takes_it(cluster: KubernetesWorkers) -> None:
    """By the schema that dask-kubernetes ships for its operator; a misspelt key is found too."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = operator_schema()
    jsonschema.validate(manifest(cluster, "one"), schema)
    misspelt = manifest(cluster, "one")
    misspelt["spec"]["worker"]["spec"]["serviceAcount"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="serviceAcount"):
        jsonschema.validate(misspelt, schema)


def operator_schema() -> dict[str, Any]:
    """That of a DaskCluster, without a way to be silent about what it does not know."""
    package = pytest.importorskip("dask_kubernetes")
    folder = Path(package.__file__).parent / "operator" / "deployment" / "helm" / "dask-kubernetes-operator" / "crds"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a hundred times faster
    (version,) = yaml.load((folder / "daskcluster.yaml").read_text(), loader)["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    # Kubernetes knows these of every resource.
    schema["properties"] |= {name: {} for name in ("apiVersion", "kind", "metadata")}
    for node in nodes(schema):
        # What is an integer or a text, such as a port or an amount, has no type there.
        if "properties" in node and "x-kubernetes-preserve-unknown-fields" not in node:
            node.setdefault("additionalProperties", False)
    return schema


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from nodes(part)


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", None)
    with (
        pytest.raises(MissingPackage, match=r"pip install 'scoreinv\[kubernetes\]'"),
        connect(KubernetesWorkers(image="x")),
    ):
        pass


def test_where_there_is_no_cluster_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("dask_kubernetes")
    config = tmp_path / "config"
    config.write_text(CONFIG)
    monkeypatch.setenv("KUBECONFIG", str(config))
    with (
        pytest.raises(ConnectionError, match="no Dask cluster could be started on Kubernetes: "),
        connect(KubernetesWorkers(image="x", namespace="default")),
    ):
        pass


CONFIG = """
apiVersion: v1
kind: Config
current-context: nothing
clusters: [{name: nothing, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: nothing, context: {cluster: nothing, user: nobody}}]
users: [{name: nobody, user: {}}]
"""


@pytest.mark.parametrize("wrong", [{"memory": "much"}, {"image": ""}, {"claims": ("data",)}, {"gpus": 2}])
def test_nonsense_is_refused_before_anything_starts(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        KubernetesWorkers.model_validate({"image": "x"} | wrong)
