"""A small client of yaml-language-server: opens texts and asks for diagnostics and completions."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "PATCHCLAMP_YAML_LANGUAGE_SERVER"
PATIENCE = 60.0
"""Seconds; a server that starts on a busy machine takes several."""


def command() -> list[str] | None:
    """Return how the server is started: as a variable says, from the PATH, or beside the schema."""
    local = ROOT / ".patchclamp" / "node_modules" / ".bin" / "yaml-language-server"
    found = os.environ.get(VARIABLE) or shutil.which("yaml-language-server")
    found = found or (str(local) if local.is_file() else None)
    return [found, "--stdio"] if found and shutil.which("node") else None


class Server:
    """A running server that checks every YAML text against one schema."""

    def __init__(self, start: list[str], schema: Path) -> None:
        self.process = subprocess.Popen(
            start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.settings = {
            "validate": True,
            "completion": True,
            "hover": True,
            "schemaStore": {"enable": False},
            "schemas": {schema.as_uri(): ["*.yaml"]},
        }
        self.last = 0
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.diagnostics: dict[str, queue.Queue[list[dict[str, Any]]]] = {}
        threading.Thread(target=self._listen, daemon=True).start()
        folder = {"uri": ROOT.as_uri(), "name": "specs"}
        capabilities = {
            "workspace": {"configuration": True},
            "textDocument": {
                "publishDiagnostics": {},
                "completion": {"completionItem": {"documentationFormat": ["markdown"]}},
            },
        }
        self.ask(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": folder["uri"],
                "workspaceFolders": [folder],
                "capabilities": capabilities,
            },
        )
        self.tell("initialized", {})
        self.tell("workspace/didChangeConfiguration", {"settings": {"yaml": self.settings}})

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def check(self, name: str, text: str) -> list[dict[str, Any]]:
        """Return what the server finds wrong in a text."""
        uri = self.open(name, text)
        return self.diagnostics[uri].get(timeout=PATIENCE)

    def complete(self, text: str) -> dict[str, str]:
        """Return what may stand at the bar in a text, each with its documentation."""
        before, _, after = text.partition("|")
        uri = self.open("completed.yaml", before + after)
        lines = before.split("\n")
        place = {"line": len(lines) - 1, "character": len(lines[-1])}
        answer = self.ask(
            "textDocument/completion", {"textDocument": {"uri": uri}, "position": place}
        )
        return {item["label"]: _text(item.get("documentation")) for item in answer["items"]}

    def hover(self, text: str) -> str:
        """Return what the server says of what stands after the bar."""
        before, _, after = text.partition("|")
        uri = self.open("hovered.yaml", before + after)
        lines = before.split("\n")
        place = {"line": len(lines) - 1, "character": len(lines[-1])}
        answer = self.ask("textDocument/hover", {"textDocument": {"uri": uri}, "position": place})
        return _text(answer["contents"]) if answer else ""

    def open(self, name: str, text: str) -> str:
        """Show the server a text as a file of the folder, and return its address.

        Each gets one of its own: the server keeps what it read under an address and a version.
        """
        uri = (ROOT / f"{len(self.diagnostics)}-{name}").as_uri()
        self.diagnostics[uri] = queue.Queue()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        return uri

    def ask(self, method: str, params: Any) -> Any:
        """Send a request and return its result."""
        self.last += 1
        self._send({"id": self.last, "method": method, "params": params})
        while True:
            answer = self.answers.get(timeout=PATIENCE)
            if answer["id"] == self.last:
                assert "error" not in answer, answer
                return answer["result"]

    def tell(self, method: str, params: Any) -> None:
        """Send what needs no answer."""
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.process.stdin.flush()

    def _listen(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        with stream:
            while True:
                length = 0
                while (line := stream.readline()).strip():
                    name, _, value = line.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                if not line:
                    return
                self._take(json.loads(stream.read(length)))

    def _take(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            self.answers.put(message)
        elif message["method"] == "textDocument/publishDiagnostics":
            params = message["params"]
            if params["uri"] in self.diagnostics:
                self.diagnostics[params["uri"]].put(params["diagnostics"])
        elif "id" in message:  # the server asks
            asked = message["params"].get("items", []) if message.get("params") else []
            known = {"yaml": self.settings}
            result = [known.get(item.get("section", "")) for item in asked] or None
            self._send({"id": message["id"], "result": result})


def _text(said: Any) -> str:
    return said.get("value", "") if isinstance(said, dict) else str(said or "")
