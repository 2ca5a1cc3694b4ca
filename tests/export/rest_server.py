"""A small server of TensorFlow Serving's documented REST interface, `POST /v1/models/NAME[/versions/N]:predict`.

    python -I rest_server.py MODEL_FOLDER

Prints its port and answers until its standard input ends. It knows TensorFlow and nothing of this package: requests in
row form ("instances") and in column form ("inputs"), {"b64": ...} for binary strings, both in inputs and in outputs
whose names end in `_bytes`, and errors as {"error": ...} with the status 400 or 404.
"""

import base64
import http.server
import importlib.util
import json
import os
import sys
import threading

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# An editable installation finds the package by a hook.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path = [p for p in sys.path if not os.path.isdir(os.path.join(p, "egt_tf"))]
if importlib.util.find_spec("egt_tf") is not None:
    sys.exit("this process must not know the package")

import tensorflow as tf  # noqa: E402

FOLDER = sys.argv[1]
NAME = os.path.basename(FOLDER)
VERSION = max(int(entry) for entry in os.listdir(FOLDER) if entry.isdecimal())
MODEL = tf.saved_model.load(os.path.join(FOLDER, str(VERSION)))


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
        return request["inputs"] if isinstance(request["inputs"], dict) and set(request["inputs"]) == set(names) else {
            names[0]: request["inputs"]}
    rows = request["instances"]
    named = isinstance(rows[0], dict) and set(rows[0]) != {"b64"}
    return {name: [row[name] if named else row for row in rows] for name in names}


def answer(request):
    function = MODEL.signatures[request.get("signature_name", "serving_default")]
    specs = function.structured_input_signature[1]
    inputs = columns(request, list(specs))
    tensors = {name: tf.constant(decoded(inputs[name]), spec.dtype) for name, spec in specs.items()}
    outputs = {name: encoded(value.numpy().tolist(), name.endswith("_bytes"))
               for name, value in function(**tensors).items()}
    if "inputs" in request:
        return {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}
    sizes = {len(value) for value in outputs.values()}
    if sizes != {len(request["instances"])}:
        raise ValueError(f"outputs of inconsistent batch sizes {sizes}")
    rows = [dict(zip(outputs, row)) for row in zip(*outputs.values())]
    return {"predictions": rows if len(outputs) > 1 else next(iter(outputs.values()))}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        paths = (f"/v1/models/{NAME}:predict", f"/v1/models/{NAME}/versions/{VERSION}:predict")
        status, result = 404, {"error": f"Not Found: {self.path}"}
        if self.path in paths:
            try:
                status, result = 200, answer(json.loads(body))
            except (KeyError, ValueError, tf.errors.InvalidArgumentError) as error:
                status, result = 400, {"error": str(error)}
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
