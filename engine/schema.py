"""The command `schema`: the grammar for editors, printed or written where they look for it."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

from patchclamp.engine.whole import write_whole
from patchclamp.registry.errors import StoreError
from patchclamp.registry.plugins import use_all
from patchclamp.specs.json_schema import json_schema

PLACE = Path(".patchclamp") / "schema.json"
"""Where the schema lies, seen from the folder of a project."""

_SAID = """\
wrote {path}

A spec in {folder} names it in its first line; one elsewhere, by the way from its own folder:

    # yaml-language-server: $schema={place}

Or for every spec of a folder, in .vscode/settings.json:

    {{"yaml.schemas": {{"{place}": "specs/**/*.yaml"}}}}

Write it again when a plugin or a new patchclamp changes what names there are.
"""


def schema_command(args: Namespace) -> int:
    """Print the JSON Schema of a spec, or write it and say how an editor is told of it."""
    use_all()
    text = json.dumps(json_schema(), ensure_ascii=False) + "\n"
    if args.write is None:
        sys.stdout.write(text)
        return 0
    path = Path(args.write) / PLACE
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror}") from error
    write_whole(path, text.encode())
    folder = "this folder" if Path(args.write) == Path() else str(Path(args.write))
    sys.stdout.write(_SAID.format(path=path, folder=folder, place=PLACE.as_posix()))
    return 0
