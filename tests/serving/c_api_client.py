"""Loads an export as TF Serving does, through TensorFlow's C API, and asks it; a program of its own.

It is run with `python -I -S`, which finds no installed package: no TensorFlow, no NumPy, nothing of this one.

    python -I -S c_api_client.py LIBTENSORFLOW_CC EXPORT SIGNATURE BATCH ECG ANSWERS

ECG holds `(batch, 12, 5000)` little-endian float32 mV, ANSWERS will hold the outputs by name, as JSON.
"""

import ctypes
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

FLOAT, BOOL = 1, 10  # TF_DataType

pointer = ctypes.c_void_p


class Buffer(ctypes.Structure):
    """TF_Buffer."""

    _fields_ = (("data", pointer), ("length", ctypes.c_size_t), ("deallocator", pointer))


class Output(ctypes.Structure):
    """TF_Output."""

    _fields_ = (("operation", pointer), ("index", ctypes.c_int))


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of a protobuf message's fields that hold bytes; numbers are passed over."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(message):
        tag = varint()
        kind = tag & 7
        if kind == 2:
            length = varint()
            yield tag >> 3, message[place : place + length]
            place += length
        elif kind == 0:
            varint()
        else:
            place += {1: 8, 5: 4}[kind]


def tensor_names(meta_graph: bytes, signature: str) -> tuple[dict[str, str], dict[str, str]]:
    """The graph's names of a signature's inputs and outputs: MetaGraphDef.signature_def (5)."""
    for number, content in fields(meta_graph):
        entry = dict(fields(content)) if number == 5 else {}
        if entry.get(1) == signature.encode():
            found: tuple[dict[str, str], dict[str, str]] = {}, {}
            for place, tensor in fields(entry[2]):  # SignatureDef: inputs (1), outputs (2)
                if place in (1, 2):
                    item = dict(fields(tensor))
                    found[place - 1][item[1].decode()] = dict(fields(item[2]))[1].decode()  # TensorInfo.name (1)
            return found
    raise SystemExit(f"no signature {signature}")


def main(library: str, export: str, signature: str, batch: str, ecg: str, answers: str) -> None:
    tf = ctypes.CDLL(library)
    for name in ("NewStatus", "NewGraph", "NewSessionOptions", "LoadSessionFromSavedModel", "GraphOperationByName"):
        getattr(tf, f"TF_{name}").restype = pointer
    for name in ("AllocateTensor", "TensorData"):
        getattr(tf, f"TF_{name}").restype = pointer
    tf.TF_TensorByteSize.restype = ctypes.c_size_t
    tf.TF_Message.restype = ctypes.c_char_p

    status = pointer(tf.TF_NewStatus())

    def check() -> None:
        if tf.TF_GetCode(status):
            raise SystemExit(tf.TF_Message(status).decode())

    graph, meta_graph = pointer(tf.TF_NewGraph()), Buffer()
    tags = (ctypes.c_char_p * 1)(b"serve")
    options = pointer(tf.TF_NewSessionOptions())
    session = tf.TF_LoadSessionFromSavedModel(
        options, None, export.encode(), tags, 1, graph, ctypes.byref(meta_graph), status
    )
    check()
    inputs, outputs = tensor_names(ctypes.string_at(meta_graph.data, meta_graph.length), signature)

    def output(name: str) -> Output:
        operation, _, index = name.partition(":")
        found = tf.TF_GraphOperationByName(graph, operation.encode())
        if not found:
            raise SystemExit(f"no operation {operation}")
        return Output(found, int(index))

    content = Path(ecg).read_bytes()
    shape = (ctypes.c_int64 * 3)(int(batch), 12, 5000)
    tensor = pointer(tf.TF_AllocateTensor(FLOAT, shape, 3, ctypes.c_size_t(len(content))))
    ctypes.memmove(tf.TF_TensorData(tensor), content, len(content))

    names = sorted(outputs)
    results = (pointer * len(names))()
    tf.TF_SessionRun(
        pointer(session),
        None,
        (Output * 1)(output(inputs["ecg"])),
        (pointer * 1)(tensor),
        1,
        (Output * len(names))(*(output(outputs[name]) for name in names)),
        results,
        len(names),
        None,
        0,
        None,
        status,
    )
    check()
    answer = {}
    for name, result in zip(names, results, strict=True):
        values = ctypes.string_at(tf.TF_TensorData(pointer(result)), tf.TF_TensorByteSize(pointer(result)))
        kind = tf.TF_TensorType(pointer(result))
        numbers = struct.unpack(f"<{len(values) // 4}f", values) if kind == FLOAT else [bool(byte) for byte in values]
        assert kind in (FLOAT, BOOL), kind
        answer[name] = {"shape": [tf.TF_Dim(pointer(result), i) for i in range(tf.TF_NumDims(pointer(result)))]}
        answer[name]["values"] = list(numbers)
    Path(answers).write_text(json.dumps(answer))
    assert not {"tensorflow", "keras", "numpy", "keras_ecg_mae"} & set(sys.modules)


if __name__ == "__main__":
    main(*sys.argv[1:])
