"""The page in a real browser. Needs the extras app and app-test, Chromium and its driver."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the extra app is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="the extra app-test is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium with its driver"),
]

SAMPLES = Path(__file__).resolve().parents[2] / "saved_models" / "samples"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)
# On a machine that does other work meanwhile, an explanation takes half a minute.
_PATIENCE = 240


def egt(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "egt_tf_cli", *map(str, arguments)]


@contextlib.contextmanager
def served(*arguments: object) -> Iterator[str]:
    """The address of a page that is served by the command."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(egt("app", "--no-browser", "--port", port, *arguments), stdout=subprocess.DEVNULL)
    try:
        yield _answering(f"http://127.0.0.1:{port}/", process)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served() as address:
        yield address


def _answering(address: str, process: subprocess.Popen) -> str:
    for _ in range(_PATIENCE):
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, "the command ended"
            time.sleep(1)
        else:
            return address
    raise AssertionError("the page does not answer")


class Visitor:
    """A browser of its own on the page, which begins with such classes."""

    def __init__(self, address: str, profile: Path, classes: str = "No classes yet"):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(profile / "downloads")})
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        self.browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.browser.get(address)
        self.wait_for("classes", classes)

    def find(self, selector: str) -> list:
        return self.browser.find_elements("css selector", selector)

    def text(self, name: str) -> str:
        # Parts are drawn anew while they are read.
        return self.browser.execute_script("return document.getElementById(arguments[0])?.innerText ?? ''", name)

    def wait(self, condition, what: str) -> None:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.25)
        raise AssertionError(f"waited in vain for {what}")

    def wait_for(self, name: str, text: str) -> None:
        self.wait(lambda: text in self.text(name), f"{text!r} in {name}: {self.text(name)!r}")

    def wait_for_box(self, text: str) -> None:
        """A message of an error; it is closed."""
        said = "return [...document.querySelectorAll('.toast-body')].map(each => each.innerText).join()"
        self.wait(lambda: text in self.browser.execute_script(said), f"a box that says {text!r}")
        self.browser.execute_script("document.querySelectorAll('.toast-close').forEach(each => each.click())")

    def click(self, name: str) -> None:
        button = self.find(f"#{name}, #{name} button")[-1]
        self.browser.execute_script("arguments[0].click()", button)

    def type(self, name: str, text: str) -> None:
        (field,) = self.find(f"#{name} textarea, #{name} input[type=text]")
        field.clear()
        field.send_keys(text)

    def upload(self, name: str, *files: Path) -> None:
        self.wait(lambda: self.find(f"#{name} input[type=file]"), "a place for files")
        self.find(f"#{name} input[type=file]")[0].send_keys("\n".join(map(str, files)))

    def choose(self, name: str, text: str) -> None:
        """An entry of a list that opens."""
        self.find(f"#{name} input")[0].click()

        def entries() -> list:
            return [each for each in self.find("ul[role=listbox] li") if text in each.text]

        self.wait(entries, f"an entry {text!r}")
        entries()[0].click()

    def figure(self) -> str | None:
        """The address of the figure, which another figure does not have."""
        images = self.find("#figure img")
        return images[0].get_attribute("src") if images else None

    def add(self, class_name: str, *files: Path) -> None:
        self.type("name", class_name)
        self.upload("photos", *files)
        self.wait_for("photos", files[0].stem)
        self.click("add")

    def requests(self) -> set[str]:
        """Addresses that the page asked for."""
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        sent = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        return {each["request"]["url"] for each in sent if each.get("documentURL", "").startswith("http")}


@pytest.fixture
def visitors(address, tmp_path) -> Iterator:
    """A function that brings another visitor."""
    there: list[Visitor] = []

    def come() -> Visitor:
        there.append(Visitor(address, tmp_path / f"profile{len(there)}"))
        return there[-1]

    yield come
    for each in there:
        each.browser.quit()


def photos(class_name: str) -> list[Path]:
    return sorted((SAMPLES / "photos" / class_name).glob("*.jpg"))


def test_teach_ask_explain_and_take_away(visitors, address, tmp_path):
    visitor = visitors()
    visitor.add("bird", *photos("bird"))
    visitor.wait_for("classes", "bird 5 photos")
    visitor.add("hammer", *photos("hammer")[:4])
    visitor.wait_for("report", "9 of 9 right")

    visitor.upload("image", SAMPLES / "photo-queries" / "bird-01.jpg")
    visitor.wait_for("answer", "bird")
    visitor.wait(visitor.figure, "a figure")
    visitor.add("windmill", *photos("windmill"))
    visitor.wait_for("classes", "windmill 5 photos")
    visitor.wait_for("answer", "The answer comes here")
    visitor.click("again")
    visitor.wait_for("probabilities", "windmill")

    visitor.type("model-name", "mine")
    visitor.click("make-saved_model")
    visitor.wait(lambda: visitor.find("#download a"), "a file")
    (link,) = {each.get_attribute("href") for each in visitor.find("#download a")}
    urllib.request.urlretrieve(link, tmp_path / "mine.zip")
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        archive.extractall(tmp_path)
    image = SAMPLES / "photo-queries" / "windmill-01.jpg"
    command = egt("predict", image, "--model", tmp_path / "mine")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"{image}: windmill (")
    assert [url for url in visitor.requests() if not url.startswith((address, "data:", "blob:"))] == []


def test_a_model_of_before_is_gone_on_with_and_explained_in_another_way(tmp_path):
    learn = egt("learn", SAMPLES / "photos", "--out", tmp_path / "model")
    subprocess.run(learn, capture_output=True, check=True)
    with served("--model", tmp_path / "model") as address:
        visitor = Visitor(address, tmp_path / "profile", "castle 5 photos")
        try:
            visitor.upload("image", SAMPLES / "photo-queries" / "windmill-01.jpg")
            visitor.wait_for("answer", "windmill")
            visitor.wait(visitor.figure, "a figure")
            first = visitor.figure()
            visitor.choose("method", "Grad-CAM")
            visitor.wait(lambda: visitor.figure() not in (None, first), "another figure")
        finally:
            visitor.browser.quit()


def test_what_is_wrong_is_said_and_nothing_is_lost(visitors, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"<script>no image</script>")
    visitor = visitors()
    visitor.click("add")
    visitor.wait_for_box("a class must have a name")
    visitor.add("bad", bad)
    visitor.wait_for_box("every class must have a photo that can be read. Received: none in 'bad'")
    visitor.upload("image", SAMPLES / "photo-queries" / "bird-01.jpg")
    visitor.wait_for_box("an answer takes two classes. Received: none yet")
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(51 * 2**20))
    visitor.upload("photos", large)
    visitor.wait_for_box("exceed the maximum allowed size of 50.0 Mb")
    visitor.click("samples")
    visitor.wait_for("report", "30 of 30 right")
    visitor.type("model-name", "../up")
    visitor.click("make-saved_model")
    visitor.wait_for_box("the name of a model must be")
    assert "castle 5 photos" in visitor.text("classes")


def test_two_visitors_do_not_see_each_other(visitors):
    one, other = visitors(), visitors()
    one.add("bird", *photos("bird"))
    one.wait_for("classes", "bird 5 photos")
    other.add("hammer", *photos("hammer"))
    other.wait_for("classes", "hammer 5 photos")
    assert "hammer" not in one.text("classes")
    assert "bird" not in other.text("classes")


def test_another_name_of_this_machine_is_refused(address):
    request = urllib.request.Request(address, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=30)
    assert error.value.code == 400


def test_no_file_of_this_machine_can_be_asked_for(address):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{address}gradio_api/file={Path(__file__).resolve()}", timeout=30)
    assert error.value.code == 403
