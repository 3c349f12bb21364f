"""The old place of what ``tests/rlds_fixture.py`` holds, for scripts that import it from here."""

from tests.rlds_fixture import SIZE, STEP, STEPS, TEXT, drawn

__all__ = ["SIZE", "STEP", "STEPS", "TEXT", "drawn"]
