"""``lit-gen fetch MODEL`` against a server on this machine that plays the hub."""

import hashlib
import json
from pathlib import Path

import pytest
from support.hub import COMMIT, Hub, running

SMALL = {name: name.encode() * 3 for name in ("config.json", "tokenizer.json", "merges.txt", "README.md", "LICENSE")}
PICKLES = dict.fromkeys(("pytorch_model.bin", "model.pt", "rust_model.ot", "onnx/model.onnx", "run.py"), b"never")
WEIGHTS = {"model.safetensors": bytes(range(256)) * 5000}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A running hub with one model; data go to ``data``."""
    made = Hub({**SMALL, **PICKLES, **WEIGHTS}, large=WEIGHTS)
    monkeypatch.delenv("LIT_GEN_OFFLINE", raising=False)
    monkeypatch.setenv("LIT_GEN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running(made) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield made


def contents(folder="data/tiny"):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != "fetched.json"}


def record():
    return json.loads(Path("data/tiny/fetched.json").read_text(encoding="utf-8"))


def refused(run, *arguments):
    code, _, err = run("fetch", *arguments)
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("name", ["tiny", "org/tiny"])
def test_a_model_with_its_record_and_no_pickle(lit_gen, hub, name):
    code, out, err = lit_gen("fetch", name)
    assert code == 0, err
    assert contents() == {**SMALL, **WEIGHTS}
    found = record()
    assert (found["id"], found["revision"], found["complete"]) == ("org/tiny", COMMIT, True)
    assert {n: (f["sha256"], f["size"]) for n, f in found["files"].items()} == {
        n: (hashlib.sha256(content).hexdigest(), len(content)) for n, content in {**SMALL, **WEIGHTS}.items()
    }
    assert found["files"]["model.safetensors"]["sha256"] in out
    before = len(hub.asked)
    assert lit_gen("fetch", name)[0] == 0
    assert len(hub.asked) - before == (2 if name == "tiny" else 1)  # only the list


def test_shards_where_there_is_no_single_file(lit_gen, hub):
    shards = {f"model-0000{i}-of-00002.safetensors": bytes([i]) * 100 for i in (1, 2)}
    index = {"model.safetensors.index.json": b"{}"}
    hub.files.update({**shards, **index})
    assert lit_gen("fetch", "org/tiny", "--revision", "refs/pr/1")[0] == 0
    assert contents() == {**SMALL, **WEIGHTS}
    del hub.files["model.safetensors"]
    assert lit_gen("fetch", "org/tiny")[0] == 0
    assert contents() == {**SMALL, **shards, **index}, "the other revision's file is gone"


def test_a_connection_that_breaks_off_goes_on(lit_gen, hub):
    hub.breaks["model.safetensors"] = 2
    code, _, err = lit_gen("fetch", "org/tiny")
    assert code == 0, err
    assert contents() == {**SMALL, **WEIGHTS}
    size = len(WEIGHTS["model.safetensors"])
    ranges = [r for path, r in hub.asked if path.endswith("model.safetensors")]
    assert ranges == [None, f"bytes={size // 2}-", f"bytes={size * 3 // 4}-"]


def test_one_that_does_not_come_back_leaves_no_half_file(lit_gen, hub):
    hub.breaks["model.safetensors"] = 10
    assert "broke off" in refused(lit_gen, "org/tiny")
    assert contents() == SMALL
    assert not record()["complete"]
    hub.breaks.clear()
    before = len(hub.asked)
    assert lit_gen("fetch", "org/tiny")[0] == 0
    assert len(hub.asked) - before == 2  # the list and the file that was missing
    assert contents() == {**SMALL, **WEIGHTS}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("change", [lambda content: content[:-1] + b"?", lambda content: content + b"?"])
def test_content_that_the_hub_did_not_promise(lit_gen, hub, name, change):
    hub.served[name] = change(hub.files[name])
    assert "is not what the hub says" in refused(lit_gen, "org/tiny")
    assert name not in contents()


def test_a_folder_of_something_else_stays(lit_gen, hub):
    folder = Path("data/tiny")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("mine", encoding="utf-8")
    assert "holds files that were not fetched" in refused(lit_gen, "org/tiny")
    (folder / "fetched.json").write_text('{"id": "other/tiny", "files": {}}', encoding="utf-8")
    assert "holds other/tiny; move it away" in refused(lit_gen, "org/tiny")
    assert (folder / "config.json").read_text(encoding="utf-8") == "mine"


def test_what_cannot_be_fetched_is_one_sentence(lit_gen, hub, monkeypatch):
    assert "gives no model org/other (404" in refused(lit_gen, "org/other")
    assert "gives no model org/tiny at the revision v9 (404" in refused(lit_gen, "org/tiny", "--revision=v9")
    assert "'../x' was found, the name of a model" in refused(lit_gen, "../x")
    assert "--config CONFIG or one MODEL" in refused(lit_gen, "a", "b")
    del hub.files["model.safetensors"]
    assert "weights in pickles (.bin, .pt) are not fetched" in refused(lit_gen, "org/tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached (" in refused(lit_gen, "org/tiny")
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    assert "HF_ENDPOINT: file:///etc was found" in refused(lit_gen, "org/tiny")
    monkeypatch.setenv("LIT_GEN_OFFLINE", "1")
    assert "LIT_GEN_OFFLINE=1 forbids connections" in refused(lit_gen, "org/tiny")
    assert not Path("data").exists()
