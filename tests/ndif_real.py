"""NDIF's own code from the package index, without Ray, GPU or Docker, for `test_remote_ndif.py`.

    python ndif_real.py '{"models": {"owner/name": "folder"}, "sandbox": false}'

Its API application takes requests and its block execution runs them, beside the model or in its
sandbox; a stand-in takes the place of the dispatcher and of the actor, which want Ray and a GPU, a
fake Redis that of Redis, and a mapping that of the object store.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import sys
import threading
import traceback
import warnings
from typing import Any

warnings.simplefilter("ignore")
sys.modules["patchclamp"] = None  # type: ignore[assignment]

from fakeredis import TcpFakeServer  # noqa: E402


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


REDIS = free_port()
os.environ["NDIF_REDIS_URL"] = f"redis://127.0.0.1:{REDIS}"
TcpFakeServer.allow_reuse_address = True
store = TcpFakeServer(("127.0.0.1", REDIS))
threading.Thread(target=store.serve_forever, daemon=True).start()

import nnsight  # noqa: E402
import redis  # noqa: E402
import torch  # noqa: E402
import uvicorn  # noqa: E402
import zstandard  # noqa: E402
from fastapi import Response  # noqa: E402
from ndif.common.errors import RequestError  # noqa: E402
from ndif.common.providers.objectstore import ObjectStoreProvider  # noqa: E402
from ndif.common.redis import ENV_KEY, STATUS_KEY  # noqa: E402
from ndif.common.schema import BackendRequestModel, Status  # noqa: E402
from ndif.services.api.app import app  # noqa: E402
from ndif.services.ray.deployments.modeling import nns  # noqa: E402
from ndif.services.ray.sandbox.driver import SandboxDriver  # noqa: E402
from ndif.services.ray.sandbox.host import spawn  # noqa: E402
from nnsight import TransformersModel  # noqa: E402
from nnsight.tracing.util import clean_traceback  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

torch.set_num_threads(1)
GIVEN = json.loads(sys.argv[1])
HTTP = free_port()
KEPT: dict[str, bytes] = {}

ObjectStoreProvider.put = classmethod(  # type: ignore[method-assign]
    lambda _, key, data, **__: KEPT.__setitem__(key, data)
)
ObjectStoreProvider.get = classmethod(lambda _, key: KEPT.get(key))  # type: ignore[method-assign]
ObjectStoreProvider.presigned_get = classmethod(  # type: ignore[method-assign]
    lambda _, key: f"http://127.0.0.1:{HTTP}/kept/{key}"
)


@app.get("/kept/{key}")
async def kept(key: str) -> Response:
    """Give what the object store would."""
    return Response(KEPT[key])


def load(folder: str) -> Any:
    model = TransformersModel(
        folder,
        task="text-generation",
        dispatch=True,
        tokenizer=AutoTokenizer.from_pretrained(folder),
        dtype=torch.float32,
    )
    model._module.eval().requires_grad_(False)
    return model


def answer(request: BackendRequestModel, model: Any) -> bytes:
    """Run a block beside the model or in the sandbox, as the actors do."""
    model._remoteable_set_env(request.env)
    if GIVEN["sandbox"]:
        runner = spawn(quiet=False, timeout=120, model_key=request.model_key)
        try:
            channel = runner.connection()
            channel.send((request.payload, request.compress, "torch.float32", None, request.env))
            data, _ = SandboxDriver(model, torch.float32).pump(channel)
            channel.close()
        finally:
            runner.stop()
        return bytes(data)
    read = BackendRequestModel.deserialize
    with nns.block_scope():
        tracer, _ = nns.prepare_traced_block(model, request.payload, request.compress, read)
        saved = nns.execute_traced_block(tracer, torch.float32)
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    return buffer.getvalue()


def work() -> None:
    """Take requests from the queue, one after the other."""
    queue, models = redis.Redis(port=REDIS), {}
    while True:
        taken = queue.brpop("queue", timeout=1)
        if taken is None:
            continue
        request = pickle.loads(taken[1])
        try:
            request.respond(Status.RUNNING, "Your job has started running.")
            name = json.loads(request.model_key.partition(":")[2])["repo_id"]
            if name not in models:
                models[name] = load(GIVEN["models"][name])
            data = answer(request, models[name])
            if request.compress:
                data = zstandard.ZstdCompressor(level=3).compress(data)
            ObjectStoreProvider.put(f"{request.id}.pt", data)
            address = ObjectStoreProvider.presigned_get(f"{request.id}.pt")
            request.respond(Status.COMPLETED, "Your job has been completed.", data=address)
        except RequestError as error:
            request.respond(Status.ERROR, str(error))
        except BaseException as error:
            shown = clean_traceback(error.__traceback__)
            said = "".join(traceback.format_exception(type(error), error, shown))
            request.respond(Status.ERROR, said)


if __name__ == "__main__":
    known = redis.Redis(port=REDIS)
    known.set("ray:connected", "1")
    known.set(ENV_KEY, json.dumps(nnsight.ndif.get_local_env()))
    known.set(STATUS_KEY, json.dumps({"deployments": {}}))
    threading.Thread(target=work, daemon=True).start()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=HTTP, log_level="error"))
    threading.Timer(1.0, lambda: (sys.stdout.write(f"{HTTP}\n"), sys.stdout.flush())).start()
    server.run()
