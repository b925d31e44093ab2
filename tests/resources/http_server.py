"""A real server for what is fetched."""

import functools
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves the bytes in `files`; `status` and `cut` make it fail."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.status, self.cut = 200, 0
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=functools.partial(self.serve_forever, poll_interval=0.01)).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        content = self.server.files.get(self.path)
        self.server.requests.append(f"{self.command} {self.path}")
        self.send_response(404 if content is None else self.server.status)
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("ETag", str(hash(content)))
        self.end_headers()
        if self.command == "GET" and content:
            self.wfile.write(content[: len(content) - self.server.cut])

    do_GET = do_HEAD

    def log_message(self, *arguments: object) -> None:
        pass
