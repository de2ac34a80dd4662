"""A server that speaks nnsight 0.8's remote protocol, on the loopback interface alone.

    python ndif_server.py '{"models": {"owner/name@revision": "folder"}, "keys": ["..."]}'

It runs in its own process, prints its port, and stands in for NDIF, whose code it shares nothing
with: what is posted is queued and run one by one, states are polled or come over a web socket,
results are fetched. It cannot import patchclamp. `POST /faults` makes it fail in the ways that the
keys of `FAULTS` say.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import linecache
import struct
import sys
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

sys.modules["patchclamp"] = None  # type: ignore[assignment]
warnings.simplefilter("ignore")

import nnsight  # noqa: E402
import torch  # noqa: E402
import zstandard  # noqa: E402
from nnsight import TransformersModel  # noqa: E402
from nnsight.schema.request import RequestModel  # noqa: E402
from nnsight.schema.response import ResponseModel, Status  # noqa: E402
from nnsight.tracing import globals as traced  # noqa: E402
from nnsight.tracing.tracer import _saves, dec, inc  # noqa: E402
from nnsight.tracing.util import clean_traceback  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

torch.set_num_threads(1)

FAULTS: dict[str, Any] = {
    "submit": [],  # what the next posts meet: an HTTP status, or "drop" for a closed connection
    "look": [],  # the same, for questions about a job
    "result": [],  # the same, for results; "half" of it, "other" numbers, or "garbage"
    "queue": [],  # what the next jobs are told of the queue, one after the other
    "delay": 0.0,  # seconds for which each of these is told
    "lose": 0,  # jobs that are taken and forgotten, as by a restart
    "hang": 0,  # jobs that run and never end
    "fail": [],  # descriptions with which the next jobs fail
    "break": 0,  # jobs whose model raises in the middle of the block
    "env": {},  # packages whose version the server gives wrongly
    "status": None,  # what it says of its models, None for the truth
    "inline": 8 << 20,  # bytes up to which a result rides on the socket
    "limit": None,  # bytes that no result may have, before it is compressed
}


@contextmanager
def one_block() -> Iterator[None]:
    """Forget what a request has left where nnsight remembers source; the next would find it."""
    kept = [(of, dict(of)) for of in (linecache.cache, traced.SOURCES, traced.BLOCKS)]
    try:
        yield
    finally:
        for of, before in kept:
            of.clear()
            of.update(before)


class NotHostedError(Exception):
    """The server does not have a model."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, models: dict[str, str], port: int, keys: list[str], dtype: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.folders, self.keys, self.dtype = models, keys, dtype
        self.events: list[str] = []
        self.loaded: dict[str, Any] = {}
        self.env = nnsight.ndif.get_local_env()
        self.faults = json.loads(json.dumps(FAULTS))
        self.sockets: dict[str, Any] = {}
        self.states: dict[str, bytes] = {}
        self.results: dict[str, bytes] = {}
        self.log: list[dict[str, Any]] = []
        self.running = threading.Lock()

    def handle_error(self, request: Any, address: Any) -> None:
        """Clients that leave are nothing to tell of."""

    def model(self, key: str) -> Any:
        """Return a hosted model by its key, loaded when it is asked for first."""
        named = json.loads(key.partition(":")[2])
        name = f"{named['repo_id']}@{named['revision'] or 'main'}"
        if name not in self.folders:
            raise NotHostedError(name)
        if key not in self.loaded:
            folder = self.folders[name]
            model = TransformersModel(
                folder,
                task=named["task"],
                dispatch=True,
                tokenizer=AutoTokenizer.from_pretrained(folder),
                dtype=getattr(torch, self.dtype),
            )
            model._module.eval().requires_grad_(False)
            self.loaded[key] = model
        return self.loaded[key]

    def tell(self, request: RequestModel, job: str, status: Status, said: str, data: Any = None):
        response = ResponseModel(id=job, status=status, description=said, data=data)
        socket = self.sockets.get(request.session_id)
        if socket is None:
            self.states[job] = response.model_dump_json().encode()
        elif isinstance(data, bytes):
            socket.sendall(frame(response.pickle(), text=False))
        else:
            socket.sendall(frame(response.model_dump_json().encode(), text=True))

    def work(self, request: RequestModel, blob: bytes, job: str) -> None:
        faults = self.faults
        if faults["lose"]:
            faults["lose"] -= 1
            return
        for said in faults["queue"]:
            if self.faults is not faults:
                break  # it does not fail like that any more
            self.tell(request, job, Status.QUEUED, said)
            time.sleep(faults["delay"])
        self.tell(request, job, Status.RUNNING, "Your job has started running.")
        if faults["hang"]:
            faults["hang"] -= 1
            return
        try:
            if faults["fail"]:
                self.tell(request, job, Status.ERROR, faults["fail"].pop(0))
                return
            with self.running, one_block():
                started = time.process_time()
                data, size = self.answer(request, blob)
                spent = time.process_time() - started
            if faults["limit"] is not None and size > faults["limit"]:
                self.tell(request, job, Status.ERROR, f"a result of {size} bytes is too large")
                return
            self.log.append(
                {"job": job, "up": len(blob), "down": len(data), "size": size, "cpu": spent}
            )
            if request.session_id in self.sockets and len(data) <= faults["inline"]:
                self.tell(request, job, Status.COMPLETED, "done", data)
                return
            self.results[job] = data
            url = f"http://127.0.0.1:{self.server_address[1]}/result/{job}?signature=abc"
            self.tell(request, job, Status.COMPLETED, "Your job has been completed.", url)
        except NotHostedError as error:
            said = f"Could not deploy this model. Repository Not Found: {error}"
            self.tell(request, job, Status.ERROR, said)
        except BaseException as error:
            kept = clean_traceback(error.__traceback__)
            said = "".join(traceback.format_exception(type(error), error, kept))
            self.tell(request, job, Status.ERROR, said)

    def answer(self, request: RequestModel, blob: bytes) -> tuple[bytes, int]:
        """Run a block and return what it saved, as NDIF sends it, and its size before that."""
        model = self.model(request.model_key)
        model._remoteable_set_env(request.env)
        known = model._remoteable_persistent_objects()
        tracer = RequestModel.deserialize(blob, known, compress=request.compress)
        handle = None
        if self.faults["break"]:
            self.faults["break"] -= 1
            head = model._module.get_output_embeddings()
            handle = head.register_forward_pre_hook(lambda *_: (torch.zeros(1, 1, 1),))
        inc()
        try:
            tracer.execute(tracer.info.code)
            saves = _saves()
            found = {k: v for k, v in tracer.info.frame.f_locals.items() if id(v) in saves}
        finally:
            dec()
            if handle is not None:
                handle.remove()
        buffer = io.BytesIO()
        torch.save(found, buffer)
        data = buffer.getvalue()
        sent = zstandard.ZstdCompressor(level=3).compress(data) if request.compress else data
        return sent, len(data)


def frame(payload: bytes, *, text: bool) -> bytes:
    """Return a web socket frame (RFC 6455, section 5.2), not masked and in one piece."""
    size = len(payload)
    head = bytes([0x81 if text else 0x82])
    if size < 126:
        return head + bytes([size]) + payload
    if size < 1 << 16:
        return head + b"\x7e" + struct.pack(">H", size) + payload
    return head + b"\x7f" + struct.pack(">Q", size) + payload


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: Any) -> None:
        """Write nothing."""

    def reply(self, body: bytes, code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def say(self, what: Any, code: int = 200) -> None:
        self.reply(json.dumps(what).encode(), code)

    def meets(self, event: str) -> bool:
        """Fail as a fault says; returns whether one did."""
        waiting = self.server.faults[event]
        fault = waiting.pop(0) if waiting else None
        if isinstance(fault, int):
            self.say({"detail": "Internal server error."}, fault)
        elif fault == "drop":
            self.close_connection = True
            self.connection.close()
        elif fault == "half":
            data = self.server.results[self.job()]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
        elif fault == "other":
            buffer = io.BytesIO()
            torch.save({"other": torch.ones(1)}, buffer)
            self.reply(zstandard.ZstdCompressor().compress(buffer.getvalue()))
        elif fault == "garbage":
            self.reply(b"no result at all")
        return fault is not None

    def job(self) -> str:
        return self.path.partition("?")[0].rpartition("/")[2]

    def refused(self) -> bool:
        """Answer as NDIF does where a key is missing, malformed or unknown."""
        key, known = self.headers.get("ndif-api-key"), self.server.keys
        if not known or key in known:
            return False
        if not key:
            self.say({"detail": "Missing or invalid API key."}, 401)
        elif len(key) != 36:
            self.say({"detail": f"Invalid API key format: '{key}'."}, 400)
        else:
            self.say({"detail": "Invalid API key."}, 403)
        return True

    def do_GET(self) -> None:
        server, path = self.server, self.path.partition("?")[0]
        server.events.append(path.split("/")[1])
        if path == "/subscribe":
            self.subscribe()
        elif path == "/ping":
            self.say("pong")
        elif path == "/whoami":
            known = self.headers.get("ndif-api-key") in server.keys
            self.say({"email": "someone@example.org" if known else None, "tags": []})
        elif path == "/env":
            env = server.env
            self.say({**env, "packages": {**env["packages"], **server.faults["env"]}})
        elif path == "/status":
            self.say(self.hosted())
        elif path == "/log":
            self.say({"jobs": server.log, "events": server.events})
        elif path.startswith("/response/") and not self.meets("look"):
            state = server.states.get(self.job())
            self.reply(state or b'{"detail": "No response."}', 200 if state else 404)
        elif path.startswith("/result/") and not self.meets("result"):
            data = server.results.get(self.job())
            self.reply(data or b"", 200 if data else 404)
        elif not path.startswith(("/response/", "/result/")):
            self.say({"detail": "Not Found"}, 404)

    def hosted(self) -> dict[str, Any]:
        """Return what NDIF says of its models."""
        if self.server.faults["status"] is not None:
            return self.server.faults["status"]
        found = {}
        for name in self.server.folders:
            repo, _, revision = name.partition("@")
            found[name] = {
                "application_state": "RUNNING",
                "deployment_level": "HOT",
                "dtype": self.server.dtype,
                "repo_id": repo,
                "revision": revision,
            }
        return {"deployments": found}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/faults":
            self.server.faults = json.loads(json.dumps(FAULTS)) | json.loads(body)
            self.say({})
            return
        self.server.events.append("request")
        if self.meets("submit") or self.refused():
            return
        head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in BytesParser().parsebytes(head + body).get_payload()
        }
        request, job = RequestModel.model_validate_json(parts["data"]), uuid.uuid4().hex
        said = ResponseModel(id=job, status=Status.RECEIVED, description="received")
        self.reply(said.model_dump_json().encode())
        arguments = (request, parts["blob"], job)
        threading.Thread(target=self.server.work, args=arguments, daemon=True).start()

    def subscribe(self) -> None:
        """Open a web socket, over which the states of jobs of its session go."""
        magic = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accepted = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accepted)
        self.end_headers()
        session = uuid.uuid4().hex
        self.server.sockets[session] = self.connection
        self.connection.sendall(frame(json.dumps({"session_id": session}).encode(), text=True))
        while received := self.connection.recv(4096):
            if received[0] & 0x0F == 8:  # the client closes, and waits for the answer
                self.connection.sendall(b"\x88\x00")
                break
        self.server.sockets.pop(session, None)
        self.close_connection = True


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    port, keys, dtype = given.get("port", 0), given.get("keys", []), given.get("dtype", "float32")
    server = Server(given["models"], port, keys, dtype)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
