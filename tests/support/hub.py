"""A server on this machine that plays the part of the Hugging Face hub that `lit_gen.data.hub` asks."""

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Files of ``org/tiny`` at one commit.

    Attributes:
        files: content by name; those in ``large`` are LFS files.
        served: other content that is sent for a name.
        breaks: how many answers for a name break off in the middle.
        asked: paths of all requests, with their Range.
    """

    def __init__(self, files, large=()):
        self.files, self.large = files, set(large)
        self.served, self.breaks, self.asked = {}, {}, []

    def answer(self):
        siblings = []
        for name, content in self.files.items():
            git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            large = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            one = {"rfilename": name, "size": len(content), "blobId": git}
            siblings.append({**one, "lfs": large} if name in self.large else one)
        return json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode()


@contextlib.contextmanager
def running(hub):
    """The server's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            hub.asked.append((self.path, self.headers.get("Range")))
            if self.path == "/api/models/tiny/revision/main?blobs=true":  # an old name
                self.send_response(307)
                self.send_header("Location", "/api/models/org/tiny/revision/main?blobs=true")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path in [f"/api/models/org/tiny/revision/{r}?blobs=true" for r in ("main", "refs%2Fpr%2F1")]:
                self.send(hub.answer(), None)
                return
            name = self.path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")
            if name not in hub.files:
                self.send_error(404)
                return
            self.send(hub.served.get(name, hub.files[name]), name)

        def send(self, content, name):
            begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            part = content[begin:]
            if hub.breaks.get(name, 0) > 0:
                hub.breaks[name] -= 1
                part = part[: len(part) // 2]
            self.wfile.write(part)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
