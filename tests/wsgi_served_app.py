"""A service for test_wsgi_server.py: run by gunicorn, or as a program by wsgiref (argument: its socket's number)."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from socketserver import ThreadingMixIn
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer
from wsgiref.validate import validator

from otelslo import SLO, Engine
from otelslo.wsgi import SLOMiddleware

CONTENT = b"content" * 100_000
HEADERS = [("Content-Type", "application/octet-stream")]


def endless():
    while True:
        yield b"x" * 10_000


def breaking():
    yield b"begun"
    raise RuntimeError("cut")


def file(environ):
    opened = tempfile.TemporaryFile()  # noqa: SIM115
    opened.write(CONTENT)
    opened.seek(0)
    return environ["wsgi.file_wrapper"](opened)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fails":
        raise RuntimeError("boom")
    if path == "/nothing":
        return [b""]
    start_response({"/down": "503 Down", "/missing": "404 Missing"}.get(path, "200 OK"), HEADERS)
    if path == "/file":
        return file(environ)
    if path == "/text":
        return ["no bytes"]
    return {"/endless": endless, "/breaks": breaking}.get(path, lambda: [b"ok"])()


engine = Engine([SLO("a")], state_dir=os.environ["STATE"])
application = SLOMiddleware(app, engine=engine)
checked = validator(SLOMiddleware(validator(app), engine=engine))


class Quiet(WSGIRequestHandler):
    def log_message(self, format, *args):
        pass


class Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    ServerHandler.log_exception = lambda self, exc_info: None
    server = Threaded(("127.0.0.1", 0), Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=int(sys.argv[1]))
    server.server_address = server.socket.getsockname()
    server.server_name, server.server_port = server.server_address
    server.setup_environ()
    server.set_app(application)
    server.serve_forever()
