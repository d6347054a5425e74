"""A stand-in W&B server on 127.0.0.1 for tests of the real ``wandb`` client.

    python -m support.fake_wandb --port 0 --dir DIR [--seed 0] [--entity offline] [--key KEY]

The first line of its output says its URL. It answers POST /graphql by the operation's name, POST .../file_stream and
PUT /storage/...; it checks no schema. State is dumped to DIR/state.json after each change, requests are logged to
DIR/requests.jsonl, what is uploaded lies in DIR/storage/. With ``--key`` any other key is refused with 401.

    POST /fake/fault/refuse    401 from now on; also: hang (no answer until another fault is set), error (500), none
    POST /fake/stop/RUN        tell the agent to stop a run, as early termination does on the real server
    GET  /fake/state           the state
"""

import argparse
import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.fake_wandb_backend import Backend
from support.fake_wandb_sweeps import Json

OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    backend: Backend

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        """The state, or an empty answer."""
        self._answer(lambda data: self.backend.state if self.path == "/fake/state" else {})

    def do_PUT(self) -> None:
        """An upload."""
        self._answer(self._put)

    def do_POST(self) -> None:
        """GraphQL, lines of files, and orders from a test."""
        self._answer(self._post)

    def _answer(self, act: Callable[[bytes], Json]) -> None:
        data, backend = self._body(), self.backend
        if not self.path.startswith("/fake/"):
            with backend.changed:
                backend.changed.wait_for(lambda: backend.fault != "hang")
            if backend.refuses(self.headers.get("Authorization")) and not self.path.startswith("/storage/"):
                return self._reply({"errors": [{"message": "invalid API key"}]}, 401)
            if backend.fault == "error":
                return self._reply({"errors": [{"message": "fake: broken"}]}, 500)
        with backend.lock:
            answer = act(data)
        return self._reply(answer)

    def _put(self, data: bytes) -> Json:
        name = self.path.removeprefix("/storage/")
        self.backend.state["files"][name] = len(data)
        path = self.backend.folder / "storage" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.backend.record("PUT", self.path, "PUT", len(data))
        return {}

    def _post(self, data: bytes) -> Json:
        backend = self.backend
        name = self.path.split("/")[-1]
        if self.path.startswith("/fake/fault/"):
            backend.set_fault(name)
            return {}
        if self.path.startswith("/fake/stop/"):
            backend.state["runs"][name]["stop"] = True
            return {}
        request = json.loads(data) if data else {}
        if name == "file_stream":
            answer = backend.stream(self.path.split("/")[-2], request)
            backend.record("POST", self.path, "file_stream", request)
            return answer
        asked = request.get("operationName") or (OPERATION.search(request.get("query", "")) or ["", "?"])[1]
        operation = backend.operations.get(asked)
        if operation is None:
            backend.record("POST", self.path, f"UNKNOWN {asked}", request)
            return {"errors": [{"message": f"fake: no operation {asked}"}], "data": None}
        out = operation(request.get("variables") or {})
        backend.record("POST", self.path, asked, {"in": request.get("variables"), "out": out})
        return {"data": out}

    def _body(self) -> bytes:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        encoding = self.headers.get("Content-Encoding")
        if encoding == "gzip":
            return gzip.decompress(raw)
        return zlib.decompress(raw) if encoding == "deflate" else raw

    def _reply(self, answer: Json, status: int = 200) -> None:
        data = json.dumps(answer, default=str).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """Clients that are killed say no goodbye; that is no news."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Only what is a mistake of this file."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(
    folder: Path, port: int = 0, seed: int = 0, entity: str = "offline", key: str | None = None
) -> tuple[ThreadingHTTPServer, Backend]:
    """A server that listens but does not serve yet, and its state."""
    folder.mkdir(parents=True, exist_ok=True)
    backend = Backend(folder, seed, entity, key)
    server = Server(("127.0.0.1", port), type("OneHandler", (Handler,), {"backend": backend}))
    backend.url = f"http://127.0.0.1:{server.server_address[1]}"
    return server, backend


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dir", type=Path, default=Path())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--entity", default="offline")
    parser.add_argument("--key", default=None)
    options = parser.parse_args()
    server, backend = serve(options.dir, options.port, options.seed, options.entity, options.key)
    print(f"fake wandb at {backend.url}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
