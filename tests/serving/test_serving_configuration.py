"""What TF Serving, Docker and Kubernetes are given in pipelines/serving/."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from keras_ecg_mae.config import Export

SERVING = Path(__file__).resolve().parents[2] / "pipelines" / "serving"
LABEL, MODEL = "stable", "lvsd"
BATCHING_FIELDS = {"max_batch_size", "batch_timeout_micros", "num_batch_threads", "max_enqueued_batches"}
BATCHING_FIELDS |= {"allowed_batch_sizes"}
# Of tensorflow_model_server 2.16 (tensorflow_serving/model_servers/main.cc).
SERVER_FLAGS = {
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models",
    "monitoring_config_file",
    "enable_batching",
    "batching_parameters_file",
    "rest_api_timeout_in_ms",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
}


def batching(device: str) -> dict[str, list[int]]:
    """The numbers of a BatchingParameters in text, by field."""
    numbers: dict[str, list[int]] = {}
    text = re.sub(r"#.*", "", (SERVING / f"batching-{device}.config").read_text())
    for name, number in re.findall(r"(\w+)\s*(?::|\{\s*value:)\s*(\d+)\s*\}?", text):
        numbers.setdefault(name, []).append(int(number))
    return numbers


def kubernetes(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((SERVING / name).read_text()))


def deployment(name: str) -> dict[str, Any]:
    (found,) = (item for item in kubernetes(name) if item["kind"] == "Deployment")
    return found


def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"]
    return services


def test_every_label_is_of_a_version_that_is_served() -> None:
    config = text_format.Parse((SERVING / "models.config").read_text(), ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (MODEL, "/models/lvsd", "tensorflow")
    assert model.name == Export.name
    assert set(model.version_labels) == {"stable", "canary"}
    assert set(model.version_labels.values()) <= set(model.model_version_policy.specific.versions)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_every_allowed_batch_was_warmed_up(device: str) -> None:
    parameters = batching(device)
    assert set(parameters) == BATCHING_FIELDS
    sizes = parameters["allowed_batch_sizes"]
    assert sizes == sorted(set(sizes))
    assert parameters["max_batch_size"] == sizes[-1:]
    assert set(sizes) <= set(Export.export_batch_sizes)
    assert min(*parameters["num_batch_threads"], *parameters["max_enqueued_batches"]) >= 1


def test_prometheus_finds_what_the_server_shows() -> None:
    text = (SERVING / "monitoring.config").read_text()
    assert re.search(r"enable: true", text)
    (path,) = re.findall(r'path: "(.*)"', text)
    for name in ("kubernetes.yaml", "kubernetes-gpu.yaml"):
        template = deployment(name)["spec"]["template"]
        annotations = template["metadata"]["annotations"]
        assert annotations["prometheus.io/path"] == path
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert annotations["prometheus.io/port"] == str(ports["rest"]) == "8501"


@pytest.mark.parametrize("version", ["1.27", "1.31"])
@pytest.mark.parametrize("name", ["kubernetes.yaml", "kubernetes-gpu.yaml"])
def test_every_object_keeps_to_kubernetes_schema(name: str, version: str) -> None:
    for item in kubernetes(name):
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("name", ["kubernetes.yaml", "kubernetes-gpu.yaml"])
def test_kubernetes_objects_mean_each_other(name: str) -> None:
    kinds = [item["kind"] for item in kubernetes(name)]
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"]
    found = deployment(name)
    labels = found["spec"]["template"]["metadata"]["labels"].items()
    selectors = [item["spec"] for item in kubernetes(name)]
    for spec in selectors:
        selector = spec.get("selector") or spec["podSelector"]
        assert selector.get("matchLabels", selector).items() <= labels
    (container,) = found["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["exec"]["command"] == ["bash", "/config/ready.sh", MODEL, LABEL]
    volumes = {volume["name"] for volume in found["spec"]["template"]["spec"]["volumes"]}
    assert volumes == {mount["name"] for mount in container["volumeMounts"]}


def test_with_and_without_gpus_only_the_device_differs() -> None:
    cpu, gpu = (
        deployment(name)["spec"]["template"]["spec"]["containers"][0]
        for name in ("kubernetes.yaml", "kubernetes-gpu.yaml")
    )
    assert {key for key in cpu | gpu if cpu.get(key) != gpu.get(key)} == {"image", "args", "env", "resources"}
    assert gpu["image"] == cpu["image"] + "-gpu"
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert [item for item in kubernetes("kubernetes.yaml") if item["kind"] != "Deployment"] == [
        item for item in kubernetes("kubernetes-gpu.yaml") if item["kind"] != "Deployment"
    ]
    services = compose()
    assert (services["cpu"]["image"], services["gpu"]["image"]) == (cpu["image"], gpu["image"])
    assert services["cpu"]["healthcheck"] == services["gpu"]["healthcheck"]


def test_servers_are_given_flags_and_files_they_know() -> None:
    commands = [service["command"] for service in compose().values()]
    commands += [
        deployment(name)["spec"]["template"]["spec"]["containers"][0]["args"]
        for name in ("kubernetes.yaml", "kubernetes-gpu.yaml")
    ]
    for command in commands:
        flags = dict(flag.removeprefix("--").split("=", 1) for flag in command)
        assert set(flags) <= SERVER_FLAGS
        assert flags["allow_version_labels_for_unavailable_models"] == flags["enable_batching"] == "true"
        for value in flags.values():
            if value.startswith("/config/"):
                name = value.removeprefix("/config/")
                # In Kubernetes one of two files goes by this name, as the manifest's head tells.
                assert (SERVING / name).is_file() or name == "batching.config"
    for name, device in (("kubernetes.yaml", "cpu"), ("kubernetes-gpu.yaml", "gpu")):
        head = (SERVING / name).read_text().partition("apiVersion")[0]
        for file in ("models.config", "monitoring.config", "ready.sh"):
            assert f"--from-file=pipelines/serving/{file}" in head
        assert f"--from-file=batching.config=pipelines/serving/batching-{device}.config" in head


def test_compose_is_reached_from_this_machine_alone() -> None:
    for service in compose().values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert all(volume.endswith(":ro") for volume in service["volumes"])
        assert service["healthcheck"]["test"] == ["CMD", "bash", "/config/ready.sh", MODEL, LABEL]
        assert "profiles" in service


@contextmanager
def model_server(labelled: str | None) -> Iterator[int]:
    """Answers as TF Serving's REST interface does while version 2 is available, and 1 in another state or none.

    `labelled` is the state of the version with the label; None where no version has it. Its model status API (GET
    /v1/models/MODEL, with or without a label) tells the states of all versions with status 200; metadata are those of
    the one version, where it is available. Yields the port.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status = 200
            if self.path == f"/v1/models/{MODEL}/labels/{LABEL}/metadata":
                status = 200 if labelled == "AVAILABLE" else 404
                answer: dict[str, Any] = {"model_spec": {"version": "1"}} if status == 200 else {"error": "not found"}
            else:
                states = {"2": "AVAILABLE", **({} if labelled is None else {"1": labelled})}
                answer = {"model_version_status": [{"version": one, "state": states[one]} for one in states]}
            body = json.dumps(answer, indent=1).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ready(port: int) -> bool:
    command = ["bash", str(SERVING / "ready.sh"), MODEL, LABEL, str(port)]
    return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0


@pytest.mark.parametrize("state", ["AVAILABLE", "LOADING", "START", "UNLOADING", "END", None])
def test_ready_is_where_the_labelled_version_is_available(state: str | None) -> None:
    with model_server(state) as port:
        assert ready(port) == (state == "AVAILABLE")


def test_no_server_is_not_ready() -> None:
    with model_server("AVAILABLE") as port:
        pass
    assert not ready(port)
