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
        "the folder of the same name"
    )
    assert package_hint("ValueError: x") is None
