"""What to install for what an exception says is missing."""

from tungstenkit.missing import package_hint


def test_what_is_missing_is_told_as_the_import_check_of_a_build_tells_it(tmp_path):
    assert package_hint("ModuleNotFoundError: No module named 'cv2'").startswith(
        "add 'opencv-python-headless' to python"
    )
    assert (
        package_hint("ModuleNotFoundError: No module named 'tkinter'")
        == "add 'python3-tk' to system_packages"
    )
    assert "libGL.so.1" in package_hint(
        "ImportError: libGL.so.1: cannot open shared object file: No such file"
    )
    (tmp_path / "own").mkdir()
    assert package_hint("ModuleNotFoundError: No module named 'own.x'", tmp_path).startswith(
        "the folder or file of the same name"
    )
    assert package_hint("ValueError: x") is None


def test_what_is_there_is_not_to_be_added():
    """Python misses the first part of a name that is not there."""
    hint = package_hint("ModuleNotFoundError: No module named 'sklearn.metricss'")
    assert hint.startswith("scikit-learn is there without it: it may want another version")
    assert "'protobuf' to python_packages" in package_hint(
        "ModuleNotFoundError: No module named 'google.protobuf'"
    )
    assert "Python's own" in package_hint("ModuleNotFoundError: No module named 'xml.odd'")
    assert package_hint("ModuleNotFoundError: No module named 'odd.x'").startswith("odd is there without it")


def test_a_file_of_ones_own_may_be_missing_and_no_strangers_package_is_named():
    hint = package_hint("ModuleNotFoundError: No module named 'helpers'")
    assert "'helpers'" not in hint
    assert "or helpers.py is missing beside the model (include_files, exclude_files)" in hint
    assert package_hint("ModuleNotFoundError: No module named 'transformers'").startswith(
        "add 'transformers'"
    )


def test_a_name_that_a_package_has_not_got_may_be_another_versions(tmp_path):
    text = "ImportError: cannot import name 'f2' from '{}' (/x.py)".format
    assert package_hint(text("sklearn.metrics")) == (
        "scikit-learn may be of another version than the code was written for"
    )
    assert package_hint(text("collections")) is None
    (tmp_path / "own.py").touch()
    assert package_hint(text("own"), tmp_path) is None
