"""Asks a model behind TensorFlow Serving's REST interface, by the standard library and without TensorFlow."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import math
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from egt_tf.data.image_set import first_images
from egt_tf.data.images import as_jpeg_or_png
from egt_tf.data.sources import open_source
from egt_tf.errors import OVERFLOW, RequestRefusedError, ServerError
from egt_tf.serving.contract import refusal
from egt_tf.ties import tied_classes

_STORED_SUPPORT = ("serving_default", "explain")
_PNG = b"\x89PNG\r\n\x1a\n"
_NOT_FOUND, _SERVER_FAILED = 404, 500


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a server answers about one image.

    Attributes:
        class_names: the classes to choose from.
        probabilities: one a class.

    Example:
        >>> prediction = Prediction(("ant", "bee"), (0.3, 0.7))
        >>> prediction.class_names[prediction.predicted]
        'bee'
    """

    class_names: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def predicted(self) -> int:
        """Index of the most probable class; the first of them where `tied` are several."""
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)

    @property
    def tied(self) -> tuple[int, ...]:
        """Indices of the classes that are as probable as the predicted one, which is among them."""
        return tied_classes(self.probabilities)


@dataclasses.dataclass(frozen=True)
class ExplainedPrediction(Prediction):
    """A prediction and what it was made from.

    Attributes:
        overlay: a PNG file; red pixels spoke for the predicted class, blue ones against it.

    Example:
        >>> ExplainedPrediction(("ant", "bee"), (0.3, 0.7), overlay=b"a PNG file").predicted
        1
    """

    overlay: bytes


@dataclasses.dataclass(frozen=True)
class SupportFiles:
    """Labelled images that travel with a request.

    Attributes:
        class_names: one name a class.
        files: the bytes of the images, class by class.
        shots: images of each class.
        left_out: images that are not sent because another class has fewer.

    Example:
        >>> SupportFiles(("ant", "bee"), (b"a PNG file", b"another"), shots=1).left_out
        0
    """

    class_names: tuple[str, ...]
    files: tuple[bytes, ...]
    shots: int
    left_out: int = 0


def read_support_files(folder: str | os.PathLike[str]) -> SupportFiles:
    """Reads the files that `egt_tf.data.support.load_support` would choose, for a server that takes JPEG and PNG.

    Images of other formats are converted to PNG.

    Args:
        folder: one sub-folder of images a class.

    Raises:
        DataError: the folder is missing, has fewer than two classes or an empty one, or an image that is neither JPEG
            nor PNG cannot be read.
        OSError: a file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("ant", "bee"):
        ...     (folder / name).mkdir()
        ...     Image.new("RGB", (40, 30), "red").save(folder / name / "1.png")
        >>> read_support_files(folder).class_names
        ('ant', 'bee')
    """
    source = open_source(f"folder:{os.fspath(folder)}")
    chosen, left_out = first_images(source.split("all").members)
    # The images of a folder have files; only those that are drawn have none.
    files = tuple(
        as_jpeg_or_png(source.encoded(int(index)), source.describe(int(index)))  # type: ignore[misc]
        for index in chosen.flat
    )
    return SupportFiles(source.class_names, files, chosen.shape[1], left_out)


class ModelServer:
    """A model behind a TensorFlow Serving REST address.

    Args:
        url: http://HOST:PORT, or https; the server's REST port is 8501 unless it was told otherwise.
        name: of the model.
        version: of the model; None: the one the server takes, its newest.
        timeout: seconds to wait for a connection and for each part of an answer, > 0.

    Raises:
        ServerError: `url` is no such address.

    Example:
        >>> ModelServer("http://localhost:8501/", "first").url
        'http://localhost:8501'
    """

    def __init__(self, url: str, name: str, version: int | None = None, timeout: float = 60.0):
        self.url = _checked_url(url)
        self.name = name
        self.version = version
        self.timeout = timeout

    def ask(self, signature: str, inputs: Mapping[str, Sequence]) -> Mapping[str, Any]:
        """What the model answers.

        The request has the column form, which takes inputs of different lengths.

        Args:
            signature: of the model.
            inputs: JSON values by the names of the signature; see `b64` for files.

        Returns:
            JSON values by the names of the outputs.

        Raises:
            ServerError: the server cannot be reached, does not answer in time, has no such model or signature, or
                answers something else than TensorFlow Serving would.
            RequestRefusedError: the inputs are not as they must be.
        """
        try:
            answer = self._answer(":predict", {"signature_name": signature, "inputs": inputs})
        except RequestRefusedError:
            # How a server says that it has no such signature differs between its versions; its list does not.
            self._check_signature(signature)
            raise
        outputs = answer.get("outputs")
        if not isinstance(outputs, dict):
            raise self.strange("the outputs by name", f"{', '.join(answer) or 'nothing'}")
        return outputs

    def signatures(self) -> tuple[str, ...]:
        """Names of what the model can be asked.

        Raises:
            ServerError: see `ask`.
        """
        answer = self._answer("/metadata")
        try:
            return tuple(sorted(answer["metadata"]["signature_def"]["signature_def"]))
        except (KeyError, TypeError) as error:
            raise self.strange("its signatures", "metadata without them") from error

    def _check_signature(self, signature: str) -> None:
        try:
            known = self.signatures()
        except ServerError:
            # Not every server in front of a model passes this on; then the first answer has to do.
            return
        if signature in known:
            return
        if signature in _STORED_SUPPORT and not set(_STORED_SUPPORT) & set(known):
            raise ServerError(
                f"the model {self.name!r} at {self.url} has no stored support set; bring one: --support "
                "FOLDER, one sub-folder of images a class"
            )
        raise ServerError(
            f"the model {self.name!r} at {self.url} must have the signature {signature!r}, as "
            f"`egt-tf export` writes it. Received: {', '.join(known) or 'none'}"
        )

    def _answer(self, what: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The JSON object that the server answers to a GET, or to a POST of `body`."""
        version = "" if self.version is None else f"/versions/{self.version}"
        address = f"{self.url}/v1/models/{urllib.parse.quote(self.name, safe='')}{version}{what}"
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return self._object(answer.read(), f"{answer.status} {answer.reason}")
        except urllib.error.HTTPError as error:
            raise self._refused(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _object(self, content: bytes, status: str) -> dict[str, Any]:
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise self.strange("a JSON object", f"{status}, {len(content)} bytes of something else")
        return value

    def _refused(self, error: urllib.error.HTTPError) -> ServerError:
        """What a status of 400 or more is told as."""
        try:
            content = error.read()
        except (OSError, http.client.HTTPException) as broken:
            return self._unreachable(broken)
        status = f"{error.code} {error.reason}"
        said = refusal(str(self._object(content, status).get("error", "")))
        if error.code == _NOT_FOUND:
            version = "" if self.version is None else f" in version {self.version}"
            return ServerError(f"the server {self.url} must have the model {self.name!r}{version}. It answers: {said}")
        if error.code >= _SERVER_FAILED:
            return ServerError(f"the server {self.url} failed ({status}): {said}")
        return RequestRefusedError(f"the server refuses the request ({status}): {said}")

    def _unreachable(self, error: Exception) -> ServerError:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, TimeoutError):
            return ServerError(
                f"the server {self.url} did not answer within {self.timeout:g} s; if it is only slow, "
                "wait longer by --timeout"
            )
        said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        return ServerError(
            f"cannot ask {self.url}: {said}; is TensorFlow Serving's REST interface there (port 8501 by default)?"
        )

    def strange(self, expected: str, received: str) -> ServerError:
        """The error for an answer that TensorFlow Serving would not give."""
        return ServerError(f"{self.url} must answer with {expected}, as TensorFlow Serving does. Received: {received}")


class RemoteClassifier:
    """Classifies images by a model behind a server, one request an image.

    Args:
        server: serves a model that `egt-tf export` wrote.
        support: travels with every request; None: the classes of the support set that the model was exported with.

    Example:
        >>> classifier = RemoteClassifier(ModelServer("http://localhost:8501", "first"))
        >>> classifier.support is None
        True
    """

    def __init__(self, server: ModelServer, support: SupportFiles | None = None):
        self.server = server
        self.support = support

    def classify(self, image: bytes) -> Prediction:
        """The classes and their probabilities.

        Args:
            image: a JPEG or PNG file.

        Raises:
            ServerError, RequestRefusedError: see `ModelServer.ask`.
        """
        if self.support is None:
            answer = self.server.ask("serving_default", {"images": [b64(image)]})
        else:
            answer = self.server.ask("classify_episode", self._episode(image, self.support))
        return Prediction(*self._classes(answer))

    def explain(self, image: bytes) -> ExplainedPrediction:
        """As `classify`, with the pixels that spoke for the most probable class and against it."""
        if self.support is None:
            answer = self.server.ask("explain", {"images": [b64(image)], "targets": [-1]})
        else:
            answer = self.server.ask("explain_episode", {**self._episode(image, self.support), "targets": [-1]})
        return ExplainedPrediction(*self._classes(answer), self._overlay(answer))

    def _episode(self, image: bytes, support: SupportFiles) -> dict[str, list]:
        labels = [index for index in range(len(support.class_names)) for _ in range(support.shots)]
        return {
            "support_images": [b64(file) for file in support.files],
            "support_labels": labels,
            "query_images": [b64(image)],
        }

    def _classes(self, answer: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[float, ...]]:
        try:
            (probabilities,) = answer["probabilities"]
            (names,) = answer["class_names"] if self.support is None else [self.support.class_names]
            numbers = tuple(map(float, probabilities))
        except (KeyError, TypeError, ValueError):
            names, numbers = (), ()
        if not len(names) == len(numbers) >= 1:
            raise self.server.strange("a probability for each class", ", ".join(answer) or "nothing")
        # TensorFlow Serving writes NaN and Infinity, which JSON does not have and Python reads.
        if not all(map(math.isfinite, numbers)):
            raise ServerError(
                f"the probabilities of {self.server.name!r} at {self.server.url} must be finite. Received: "
                f"{', '.join(map(str, numbers))}; {OVERFLOW}"
            )
        return tuple(map(str, names)), numbers

    def _overlay(self, answer: Mapping[str, Any]) -> bytes:
        try:
            file = base64.b64decode(answer["overlay_bytes"][0]["b64"], validate=True)
        except (KeyError, TypeError, ValueError, IndexError):
            file = b""
        if not file.startswith(_PNG):
            raise self.server.strange("a PNG file as overlay_bytes", ", ".join(answer))
        return file


def b64(file: bytes) -> dict[str, str]:
    """The bytes of a file as TensorFlow Serving takes them in JSON."""
    return {"b64": base64.b64encode(file).decode("ascii")}


def _checked_url(url: str) -> str:
    """`url` without a slash at its end."""
    try:
        parts = urllib.parse.urlsplit(url)
        # Asked for the ValueError of a port that is no number.
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    # Spaces and control characters would be refused by http.client only, in words of its own.
    if not is_address or parts.query or parts.fragment or "/v1" in parts.path or not url.isprintable() or " " in url:
        raise ServerError(f"the server's address must be http://HOST:PORT, without /v1/models. Received: {url!r}")
    return url.rstrip("/")
