"""Redis is asked for by one setting, and costs nothing without it."""

import subprocess
import sys
from pathlib import Path

import pytest

from xrouter.settings import Settings


def test_a_url_that_cannot_be_read_is_said_at_the_start(tmp_path: Path) -> None:
    environment = {
        "XROUTER_DATA_DIR": str(tmp_path),
        "XROUTER_BOOTSTRAP_KEY": "k" * 40,
        "XROUTER_PORT": "0",
        "XROUTER_REDIS_URL": "http://:secret@redis:6379/0",
        "GIGACHAT_CREDENTIALS": "ZGVtbzpkZW1v",
    }
    command = [sys.executable, "-m", "xrouter", "serve"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "XROUTER_REDIS_URL: begins with 'http', which is not Redis; it must be redis, rediss or unix" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("share", ["0", "1.5", "-1"])
def test_a_share_is_a_part(share: str) -> None:
    with pytest.raises(ValueError, match="limits_share"):
        Settings.model_validate({"limits_share": share})


def test_without_the_setting_the_client_is_not_even_imported() -> None:
    program = "import sys, xrouter.app; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
