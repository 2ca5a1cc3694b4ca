"""A small server of TensorFlow Serving's documented REST interface, `POST /v1/models/NAME[/versions/N]:predict` and
`GET /v1/models/NAME[/versions/N]/metadata`.

    python -I rest_server.py MODEL_FOLDER...

Prints its port and answers until its standard input ends. It knows TensorFlow and nothing of this package: requests in
row form ("instances") and in column form ("inputs"), {"b64": ...} for binary strings, both in inputs and in outputs
whose names end in `_bytes`, and errors as {"error": ...} with the status 400 or 404.
"""

import base64
import http.server
import importlib.util
import json
import os
import re
import sys
import threading
import urllib.parse

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# An editable installation finds the package by a hook.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path = [p for p in sys.path if not os.path.isdir(os.path.join(p, "egt_tf"))]
if importlib.util.find_spec("egt_tf") is not None:
    sys.exit("this process must not know the package")

import tensorflow as tf  # noqa: E402 (nothing of TensorFlow may be there before the lines above hide the package)


def loaded(folder):
    """The newest version of a model and its number."""
    version = max(int(entry) for entry in os.listdir(folder) if entry.isdecimal())
    return tf.saved_model.load(os.path.join(folder, str(version))), version


MODELS = {os.path.basename(folder): loaded(folder) for folder in sys.argv[1:]}


def decoded(value):
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return [decoded(one) for one in value] if isinstance(value, list) else value


def encoded(value, binary):
    if isinstance(value, list):
        return [encoded(one, binary) for one in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()} if binary else value.decode()
    return value


def columns(request, names):
    """The inputs by name. A row is a value by name, or the value itself where there is one input."""
    if "inputs" in request:
        return (
            request["inputs"]
            if isinstance(request["inputs"], dict) and set(request["inputs"]) == set(names)
            else {names[0]: request["inputs"]}
        )
    rows = request["instances"]
    named = isinstance(rows[0], dict) and set(rows[0]) != {"b64"}
    return {name: [row[name] if named else row for row in rows] for name in names}


def answer(model, request):
    name = request.get("signature_name", "serving_default")
    if name not in model.signatures:
        raise ValueError(f'Serving signature name: "{name}" not found in signature def')
    function = model.signatures[name]
    specs = function.structured_input_signature[1]
    inputs = columns(request, list(specs))
    tensors = {name: tf.constant(decoded(inputs[name]), spec.dtype) for name, spec in specs.items()}
    outputs = {
        name: encoded(value.numpy().tolist(), name.endswith("_bytes")) for name, value in function(**tensors).items()
    }
    if "inputs" in request:
        return {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}
    sizes = {len(value) for value in outputs.values()}
    if sizes != {len(request["instances"])}:
        raise ValueError(f"outputs of inconsistent batch sizes {sizes}")
    rows = [dict(zip(outputs, row)) for row in zip(*outputs.values())]
    return {"predictions": rows if len(outputs) > 1 else next(iter(outputs.values()))}


def metadata(name):
    """Of the metadata only the names of the signatures: who needs their shapes reads the model card."""
    model, version = MODELS[name]
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": {signature: {} for signature in model.signatures}}},
    }


def named(path, verb):
    """The model that a path names. Raises LookupError with the server's words."""
    found = re.fullmatch(rf"/v1/models/([^/:]+)(?:/versions/(\d+))?{verb}", path)
    if found is None:
        raise LookupError(f"Malformed request: {path}")
    name, version = urllib.parse.unquote(found[1]), found[2]
    if name not in MODELS or version not in (None, str(MODELS[name][1])):
        asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise LookupError(f"Servable not found for request: {asked}")
    return name


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply("/metadata", metadata)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(":predict", lambda name: answer(MODELS[name][0], json.loads(body)))

    def reply(self, verb, result_of):
        try:
            name = named(self.path, verb)
        except LookupError as error:
            return self.send(404, {"error": str(error)})
        try:
            self.send(200, result_of(name))
        except (KeyError, ValueError, tf.errors.InvalidArgumentError) as error:
            self.send(400, {"error": str(error)})

    def send(self, status, result):
        content = json.dumps(result).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
