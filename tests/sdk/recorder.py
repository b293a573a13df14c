"""A loopback server between renewd and the practice cloud that keeps every request as it came over the wire."""

import http.client
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Recorded:
    method: str
    target: str
    headers: dict  # names in the way the vendors' clients write them: X-Date
    body: str

    @property
    def query(self):
        return urlsplit(self.target).query

    @property
    def pairs(self):
        """The parameters of a query or of a form, decoded."""
        text = self.query if self.method == "GET" else self.body
        return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True))

    @property
    def query_pairs(self):
        return dict(parse_qsl(self.query, keep_blank_values=True, strict_parsing=True))


class Recorder:
    def __init__(self, upstream):
        self.requests = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler(upstream))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def handler(self, upstream):
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def relay(self):
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                headers = {name.title(): value for name, value in self.headers.items()}
                recorder.requests.append(Recorded(self.command, self.path, headers, body.decode()))
                connection = http.client.HTTPConnection(upstream, timeout=30)
                try:
                    # With the host that was signed.
                    connection.request(self.command, self.path, body, dict(self.headers.items()))
                    answer = connection.getresponse()
                    text = answer.read()
                except (http.client.HTTPException, OSError):
                    # A fault cut the upstream connection: so is this one.
                    self.close_connection = True
                    return
                finally:
                    connection.close()
                self.send_response_only(answer.status)
                for name in ("Content-Type", "Date"):
                    self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = relay

            def log_message(self, *_):
                pass

        return Handler
