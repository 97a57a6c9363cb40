from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class FaultyServer(ThreadingHTTPServer):
    """Serves ``content`` with ranges and ETags, and once for each of a path's ``faults`` does worse.

    Faults: ("drop", n): the full length promised, n bytes sent; ("stall", n): n bytes, then nothing until ``release``
    is set; ("status", code, headers); ("ignore range",): all of it again, with 200; ("ignore if-range",): 206 whatever
    has changed; ("lie",): 206 from another offset; ("partial", n): 206 with n bytes at most; ("flip",): one wrong byte;
    ("short", n): n bytes promised and sent; ("html", type, page): an error page with 200; ("no length",): bytes until
    the connection closes; ("weak", n): a drop, with an ETag that cannot validate.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content: dict[str, bytes] = {}
        self.faults: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.head_status = 200
        self.release = threading.Event()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def ranges(self, name: str) -> list[str | None]:
        """The Range header of each GET of a file."""
        return [span for method, path, span in self.asked if (method, path) == ("GET", name)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def do_HEAD(self) -> None:
        self._log()
        body = self.server.content.get(self.path[1:])
        self._head(self.server.head_status if body is not None else 404, {"Content-Length": str(len(body or b""))})

    def do_GET(self) -> None:
        self._log()
        name = self.path[1:]
        waiting = self.server.faults[name]
        fault, *arguments = waiting.pop(0) if waiting else ("",)
        if fault == "status":
            code, headers = arguments
            self._head(code, {"Content-Length": "0", **headers})
            return
        if name not in self.server.content:
            self._head(404, {"Content-Length": "0"})
            return
        body = self.server.content[name]
        etag = '"' + hashlib.sha256(body).hexdigest()[:16] + '"'
        if fault == "html":
            kind, page = arguments
            self._head(200, {"Content-Length": str(len(page)), "Content-Type": kind})
            self.wfile.write(page)
            return
        if fault == "flip":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault == "short":
            body = body[: arguments[0]]
        headers = {"ETag": "W/" + etag if fault == "weak" else etag, "Content-Type": "application/octet-stream"}
        offset, code = 0, 200
        same = self.headers.get("If-Range") == etag or fault == "ignore if-range"
        if self.headers.get("Range") and same and fault != "ignore range":
            offset, code = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")), 206
            begin = offset - 7 if fault == "lie" else offset
            headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        if fault == "partial":
            end, code = min(offset + arguments[0], len(body)), 206
            headers["Content-Range"] = f"bytes {offset}-{end - 1}/{len(body)}"
            body = body[:end]
        if fault == "no length":
            self.close_connection = True
            headers["Connection"] = "close"
        else:
            headers["Content-Length"] = str(len(body) - offset)
        self._head(code, headers)
        if fault in ("drop", "stall", "weak"):
            self.wfile.write(body[offset : offset + arguments[0]])
            if fault == "stall":
                self.server.release.wait(30)
            self.close_connection = True
            return
        self.wfile.write(body[offset:])

    def _head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _log(self) -> None:
        self.server.asked.append((self.command, self.path[1:], self.headers.get("Range")))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.release.set()
        running.shutdown()
        thread.join()
