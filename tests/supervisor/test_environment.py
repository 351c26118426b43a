"""Settings survive the way through a worker's environment."""

from pathlib import Path

from xrouter.settings import SecretText, Settings, load_settings
from xrouter.supervisor.environment import environment_for


def test_a_worker_reads_equal_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XROUTER_DEFAULT_MODEL", "only/in-the-environment")
    ours = Settings(
        host="::1",
        port=0,
        data_dir=tmp_path,
        config=Path("xrouter.yaml"),
        bootstrap_key=SecretText("0123456789abcdef0123456789abcdef"),
        default_model=None,
        workers=7,
        allowed_hosts=["a.example.com", "*.example.com"],
        drain_delay_s=0.25,
        log_level="warning",
    )
    environment = environment_for(ours, tmp_path / "metrics-1")
    assert environment["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path / "metrics-1")

    monkeypatch.delenv("XROUTER_DEFAULT_MODEL")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == ours
