"""What a WandB run without an account has written, read back from its files."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

BLOCK = 2**15  # bytes; records are cut at its edges, as in LevelDB's log
FULL, LAST = 1, 4


def messages(path: Path) -> Iterator[bytes]:
    """The serialised messages of a .wandb file: seven bytes that say what it is, then LevelDB's log format."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, message = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # too short for a header: padding
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        message += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (FULL, LAST):
            yield message
            message = b""


def history(workdir: Path) -> SimpleNamespace:
    """All runs in ``workdir`` in order: rows of the history, ids, names, and the newest configuration."""
    from wandb.proto import wandb_internal_pb2

    rows, ids, names, config = [], set(), set(), {}
    for path in sorted((Path(workdir) / "wandb").glob("offline-run-*/*.wandb")):
        for message in messages(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                items = record.history.item
                rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
            elif kind == "run":
                ids.add(record.run.run_id)
                names.add(record.run.display_name)
                config |= {i.key: json.loads(i.value_json) for i in record.run.config.update}
    return SimpleNamespace(rows=rows, ids=ids, names=names, config=config)
