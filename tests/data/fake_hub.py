"""A Hugging Face hub on this machine: the few requests that its library makes for a data set's files.

GET  /api/datasets/<repository>/tree/main/<folder>              what a folder holds, as JSON
HEAD /datasets/<repository>/resolve/main/<file>                 size and etag
GET  the same, with or without Range: bytes=N-                  content
"""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

COMMIT = "0" * 39 + "1"


class Hub:
    """What it has under ``root``, what it was asked, and how it misbehaves.

    Attributes:
      cut: files that are sent half, once, and then the line breaks.
      stuck: files that are sent half and then nothing more, while the line stays open.
      requests: "METHOD path range" of everything asked.
    """

    def __init__(self, root: Path, repository: str):
        self.root, self.repository = root, repository
        self.cut: set[str] = set()
        self.stuck: set[str] = set()
        self.over = threading.Event()
        self.requests: list[str] = []

    @contextmanager
    def serve(self):
        """Yields its address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            self.over.set()
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, path = self.hub, unquote(self.path.split("?")[0])
        hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        tree, resolve = f"/api/datasets/{hub.repository}/tree/main/", f"/datasets/{hub.repository}/resolve/"
        if path.startswith(tree):
            self._tree(path.removeprefix(tree))
        elif path.startswith(resolve):
            self._file(path.removeprefix(resolve).split("/", 1)[1])
        else:
            self._missing("RepoNotFound")

    def _missing(self, code: str):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _tree(self, folder: str):
        if not (self.hub.root / folder).is_dir():
            return self._missing("EntryNotFound")
        files = sorted((self.hub.root / folder).iterdir())
        entries = [
            {"type": "file", "path": f"{folder}/{f.name}", "size": f.stat().st_size, "oid": "0" * 40} for f in files
        ]
        self._send(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str):
        file = self.hub.root / name
        if not file.is_file():
            return self._missing("EntryNotFound")
        data = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if start else 200, data[start:], headers, name)

    def _send(self, status: int, body: bytes, headers: dict, name: str = ""):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if name in self.hub.cut:
            self.hub.cut.remove(name)
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        if name in self.hub.stuck:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.hub.over.wait(60)
            return
        self.wfile.write(body)

    def log_message(self, *_):
        pass
