"""The pepper file: made once, whole, private."""

import sys
from pathlib import Path
from typing import Any

import pytest

from xrouter.stores.pepper import PepperError, load_pepper


def test_it_is_made_once_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "data" / "pepper"
    first = load_pepper(path)
    assert len(first.reveal()) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_pepper(path) == first
    assert [entry.name for entry in path.parent.iterdir()] == ["pepper"]


def test_processes_that_start_at_once_agree(tmp_path: Path, start_together: Any) -> None:
    script = (
        "import sys; from pathlib import Path; from xrouter.stores.pepper import load_pepper; sys.stdin.read(1);"
        "print(load_pepper(Path(sys.argv[1])).reveal())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "pepper")]
    assert start_together(command, 4) == [(load_pepper(tmp_path / "pepper").reveal() + "\n", 0)] * 4


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64])
def test_a_file_without_a_pepper_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(content)
    with pytest.raises(PepperError, match="pepper"):
        load_pepper(path)
    assert path.read_bytes() == content
