"""Code of the how-to pages, as a user would have it: files of a folder that Python searches."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def write_code(page: str, folder: Path, monkeypatch) -> None:
    """Writes every block of docs/how-to/PAGE that has a title as a file of this name, in a folder put on the path."""
    blocks = re.findall(r'```python title="(\w+\.py)"\n(.*?)```', (DOCS / "how-to" / page).read_text(), re.DOTALL)
    assert blocks
    for name, code in blocks:
        (folder / name).write_text(code)
    monkeypatch.syspath_prepend(folder)
