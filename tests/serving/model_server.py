"""An export behind TF Serving's own interfaces, gRPC and REST: `python model_server.py FOLDER NAME`.

TF Serving itself is in no package registry. This serves the SavedModel through tensorflow-serving-api's servicer and
through http.server, in the forms of https://www.tensorflow.org/tfx/serving/api_rest, as a process of its own. It prints
both ports. It serves the model under two more names, under which it misbehaves: `slow`, and `busy` (every other answer
is 'unavailable').
"""

import base64
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.predict_pb2 import PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

SLOW, BUSY = "slow", "busy"
SLOW_S = 3.0
LABEL = "stable"  # of the version that is served


class Model:
    """A SavedModel's signatures, under its name and two that are faults."""

    def __init__(self, folder: str, name: str):
        self.names = (name, SLOW, BUSY)
        self.version = int(folder.rstrip("/").rpartition("/")[2])
        self._loaded = tf.saved_model.load(folder)
        self._requests, self._lock = 0, threading.Lock()

    def signature(self, name: str) -> Any:
        return self._loaded.signatures[name or "serving_default"]

    def misbehaves(self, name: str) -> bool:
        """Whether a request of a name is refused, after a while where it is `slow`."""
        if name == SLOW:
            time.sleep(SLOW_S)
        if name != BUSY:
            return False
        with self._lock:
            self._requests += 1
            return self._requests % 2 == 1


class Servicer(PredictionServiceServicer):
    def __init__(self, model: Model):
        self.model = model

    def _meet(self, request: Any, context: Any) -> None:
        if self.model.misbehaves(request.model_spec.name):
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        asked = request.model_spec
        if (
            asked.name not in self.model.names
            or asked.version.value not in (0, self.model.version)
            or asked.version_label not in ("", LABEL)
        ):
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802  # the servicer's name
        self._meet(request, context)
        signature = self.model.signature(request.model_spec.signature_name)
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        try:
            outputs = signature(**inputs)
        except (TypeError, ValueError, tf.errors.OpError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the input has another shape than the signature's")
        response = PredictResponse()
        response.model_spec.version.value = self.model.version
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802  # the servicer's name
        self._meet(request, context)
        signatures = SignatureDefMap()
        for name in self.model.signature("").structured_outputs:
            signatures.signature_def["serving_default"].outputs[name].name = name
        response = GetModelMetadataResponse()
        response.model_spec.version.value = self.model.version
        response.metadata["signature_def"].Pack(signatures)
        return response


class Handler(BaseHTTPRequestHandler):
    model: Model
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        outputs: dict[str, Any] = {name: {} for name in self.model.signature("").structured_outputs}
        signature = {"serving_default": {"outputs": outputs}}
        spec = {"name": self.model.names[0], "signature_name": "", "version": str(self.model.version)}
        self._answer({"model_spec": spec, "metadata": {"signature_def": {"signature_def": signature}}})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        examples = [base64.b64decode(item["b64"]) for item in request["inputs"]["examples"]]
        outputs = self.model.signature(request["signature_name"])(examples=tf.constant(examples))
        # TF Serving writes NaN as the bare word, which Python's JSON does too.
        self._answer({"outputs": {name: value.numpy().tolist() for name, value in outputs.items()}})

    def _known(self) -> list[str]:
        version = f"/versions/{self.model.version}"
        return [
            f"/v1/models/{name}{which}{what}"
            for name in self.model.names
            for which in ("", version, f"/labels/{LABEL}")
            for what in ("/metadata", ":predict")
        ]

    def _answer(self, content: dict[str, Any]) -> None:
        status, body = 200, json.dumps(content).encode()
        if self.model.misbehaves(self.path.split("/")[3]):
            status, body = 503, b'{"error": "unavailable"}'
        elif self.path not in self._known():
            status, body = 404, b'{"error": "Servable not found for request"}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def main() -> None:
    model = Model(*sys.argv[1:])
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    grpc_server = grpc.server(ThreadPoolExecutor(8), options=options)
    add_PredictionServiceServicer_to_server(Servicer(model), grpc_server)
    grpc_port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    Handler.model = model
    rest_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{grpc_port} {rest_server.server_address[1]}\n")
    sys.stdout.flush()
    rest_server.serve_forever()


if __name__ == "__main__":
    main()
