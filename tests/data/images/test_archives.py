"""Archives: downloaded, verified, unpacked, or named as missing."""

import functools
import gzip
import hashlib
import http.server
import threading

import pytest
from support.image_files import small_mnist  # noqa: F401  a fixture

from lit_gen.core.errors import UserError
from lit_gen.data.images import archives
from lit_gen.data.images.mnist import MNIST


def test_offline_says_at_once_what_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz was not found .*LIT_GEN_OFFLINE=1 forbids"):
        MNIST(root=str(tmp_path)).prepare_data()


@pytest.fixture
def server(tmp_path):
    """A web server for the folder ``served``, only on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_download_is_verified_and_complete_or_absent(server, tmp_path, monkeypatch):
    folder, url = server
    monkeypatch.setenv("LIT_GEN_OFFLINE", "0")
    (folder / "f.gz").write_bytes(gzip.compress(b"the content"))
    checksum = hashlib.md5(b"the content").hexdigest()
    found = archives.ensure(tmp_path / "d", ("a",), "f.gz", [f"{url}/absent.gz", f"{url}/f.gz"], checksum)
    assert found == tmp_path / "d" / "a" / "f.gz"
    assert gzip.decompress(found.read_bytes()) == b"the content"
    with pytest.raises(UserError, match=r"g.gz was not found .*could not be downloaded .*checksum"):
        archives.ensure(tmp_path / "d", ("a",), "g.gz", [f"{url}/f.gz"], "0" * 32)
    assert [p.name for p in (tmp_path / "d" / "a").iterdir()] == ["f.gz"]
    with pytest.raises(UserError, match=r"g.gz was not found"):
        archives.ensure(tmp_path / "d", ("new",), "g.gz", [f"{url}/absent.gz"], "0" * 32)
    assert not (tmp_path / "d" / "new").exists()


def test_an_archive_packed_anew_and_an_unpacked_file_are_accepted(small_mnist):
    path = small_mnist / "mnist" / "train-images-idx3-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content, 1))
    assert len(MNIST(root=str(small_mnist), val_size=20).split("train")) == 40
    path.with_suffix("").write_bytes(content)
    path.unlink()
    assert len(MNIST(root=str(small_mnist), val_size=20).split("train")) == 40
