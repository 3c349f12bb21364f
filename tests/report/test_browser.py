"""The page in a browser, where the machine has one: it draws every curve, in both themes, and the console stays silent."""

import shutil
import subprocess

import pytest

from drifting_vla_jax.report.page import write_report
from tests.report.conftest import episode

BROWSER = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)


def opened(page, theme) -> tuple[str, str]:
    """(the document after its scripts ran, the console's messages)."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--enable-logging=stderr"]
    flags += [f"--blink-settings=preferredColorScheme={theme}", "--dump-dom", page.as_uri()]
    result = subprocess.run([BROWSER, *flags], capture_output=True, text=True, timeout=60, check=True)
    return result.stdout, "\n".join(line for line in result.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_opens_without_a_word_on_the_console(make_run, evaluate, ten, tmp_path):
    a, b = make_run("a"), make_run("b")
    for step in (2, 4):
        evaluate(a, ten, step=step)
    evaluate(b, [episode("reach", 0, True, instruction="<script>document.title = 'taken'</script>")])
    page, _ = write_report(a, b)
    for theme in (0, 1):
        dom, console = opened(page, theme)
        assert not console
        assert dom.count("<canvas") == page.read_text().count('class="chart" data-chart=') == 6
        assert "<title>a and b: Drifting-VLA report</title>" in dom
    page.write_text(page.read_text().replace("const figures = []", "nonsense()"))
    assert "nonsense is not defined" in opened(page, 0)[1]  # an error would have been seen
