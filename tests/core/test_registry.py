"""Plug-ins by name or by import path."""

import pytest

from drifting_vla_jax.core.registry import PluginError, load

KNOWN = {"rotation": "drifting_vla_jax.core.text:shown"}


def test_a_name_and_an_import_path_load_the_same():
    assert load("thing", KNOWN, "rotation") is load("thing", {}, "drifting_vla_jax.core.text:shown")


@pytest.mark.parametrize(
    "name, words",
    [
        ("rotatoin", "unknown thing 'rotatoin'; did you mean 'rotation'?; your own is written module:name"),
        ("no_such_lab.file:Thing", "there is no module 'no_such_lab'"),
        ("drifting_vla_jax.core.nothing:Thing", "there is no module 'drifting_vla_jax.core.nothing'"),
        ("drifting_vla_jax.core.text:show", "module drifting_vla_jax.core.text has no 'show'; did you mean 'shown'?"),
        ("drifting_vla_jax.core.text:", "has no ''"),
        (":Thing", "expected module:name"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(name, words):
    with pytest.raises(PluginError) as error:
        load("thing", KNOWN, name)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_an_import_that_a_plugin_lacks_is_not_taken_for_the_plugin(tmp_path, monkeypatch):
    (tmp_path / "my_broken_plugin.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_nobody_has"):
        load("thing", KNOWN, "my_broken_plugin:Thing")
