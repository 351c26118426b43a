"""Who is measured: nginx as a plain proxy, ours with everything on, and on request LiteLLM and gpt2giga."""

import json
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from processes import KEY, ROOT, Target, free_port

BUILD = ROOT / "build" / "bench"
FILES_MAX = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

PLAIN = "mock-model"
PACED = "mock-200x20000"  # 200 content chunks, one per 20 ms: a fast model
SHORT = "mock-5x2000"
HELD = "mock-2x120000000"  # one chunk at once, the next after two minutes
MODELS = (PLAIN, PACED, SHORT, HELD)

NGINX_CONF = """
daemon off; worker_processes 1; worker_rlimit_nofile {files}; pid {folder}/pid; error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    access_log off; keepalive_requests 1000000000; client_max_body_size 20m; client_body_buffer_size 1m;
    upstream vendor {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=8192;
        proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 300s;
        location / {{ proxy_pass http://vendor; }}
        location /sse/ {{ proxy_pass http://vendor/; proxy_buffering off; }}
    }}
}}
"""


class Skip(Exception):
    """Something that this machine lacks. The message says what."""


def build(name: str) -> Path:
    """The tool, compiled when its source is newer."""
    source, tool = Path(__file__).with_name(f"{name}.c"), BUILD / name
    if not tool.exists() or tool.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if not compiler:
            raise Skip("no C compiler (cc) for the load tools")
        BUILD.mkdir(parents=True, exist_ok=True)
        subprocess.run([compiler, "-O2", "-o", tool, source], check=True)
    return tool


def upstream() -> Target:
    return Target("direct", [str(build("upstream")), "{port}"])


def nginx(folder: Path, vendor: Target) -> Target:
    """Keep-alive on both sides, no access log, streams unbuffered: the floor under any gateway."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if not program:
        raise Skip("no nginx, which every ratio needs")
    own = Path(tempfile.mkdtemp(prefix="nginx-", dir=folder))
    port = free_port()
    text = NGINX_CONF.format(
        files=FILES_MAX, connections=min(FILES_MAX, 40_000), folder=own, upstream=vendor.port, port=port
    )
    (own / "nginx.conf").write_text(text)
    argv = [program, "-p", str(own), "-c", str(own / "nginx.conf"), "-e", "stderr"]
    return Target("nginx", argv, stream_path="/sse/v1/chat/completions", log=own / "log", port=port)


def xrouter(folder: Path, vendor: Target, command: str) -> Target:
    """Ours with everything on: keys, journal, prices, metrics, logs to a file. A fresh data directory each time."""
    own = Path(tempfile.mkdtemp(prefix="xrouter-", dir=folder))
    base = f"http://127.0.0.1:{vendor.port}"
    price = {"input_rub_per_1m": 35, "output_rub_per_1m": 70}
    common = {"api_key": "eDp5", "max_concurrency": 0, "timeouts": {"first_s": 300, "idle_s": 300}}
    common |= {"models": [{"name": model, "price": price} for model in MODELS]}
    giga = {"kind": "gigachat", "base_url": f"{base}/giga/v1", "auth_url": f"{base}/giga/oauth"}
    providers = {
        "bench": {"kind": "openai_compatible", "base_url": f"{base}/v1", **common},
        "giga": {**giga, "scope": "GIGACHAT_API_CORP", **common},
    }
    (own / "xrouter.yaml").write_text(json.dumps({"providers": providers}))  # JSON is YAML
    env = {
        "PYTHONPATH": str(ROOT / "src"), "XROUTER_HOST": "127.0.0.1", "XROUTER_PORT": "{port}",
        "XROUTER_CONFIG": str(own / "xrouter.yaml"), "XROUTER_DATA_DIR": str(own / "data"),
        "XROUTER_BOOTSTRAP_KEY": KEY, "XROUTER_DRAIN_DELAY_S": "0",
    }  # fmt: skip
    return Target("xrouter", shlex.split(command), env, "bench/", ready_path="/health/ready", log=own / "log")


def peer_program(name: str, package: str) -> str:
    """The program, in a virtual environment of its own; remove that folder to get a newer release."""
    home = BUILD / "peers" / name
    if not (home / "installed").exists():
        print(f"installing {package} into {home} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", "-q", package], check=True)
        (home / "installed").touch()
    return str(home / "bin" / name)


def litellm(folder: Path, vendor: Target) -> Target:
    """One worker, a master key, no database."""
    params = {"api_base": f"http://127.0.0.1:{vendor.port}/v1", "api_key": "x"}
    models = [{"model_name": model, "litellm_params": {"model": f"openai/{model}", **params}} for model in MODELS]
    (folder / "litellm.yaml").write_text(json.dumps({"model_list": models}))
    argv = [peer_program("litellm", "litellm[proxy]"), "--config", str(folder / "litellm.yaml"), "--num_workers", "1"]
    argv += ["--host", "127.0.0.1", "--port", "{port}"]
    env = {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    return Target("litellm", argv, env, log=folder / "litellm.log")


def gpt2giga(folder: Path, vendor: Target) -> Target:
    """One worker, its own API key, models passed through."""
    base = f"http://127.0.0.1:{vendor.port}/giga"
    env = {
        "GPT2GIGA_HOST": "127.0.0.1", "GPT2GIGA_PORT": "{port}", "GPT2GIGA_PASS_MODEL": "True",
        "GPT2GIGA_ENABLE_API_KEY_AUTH": "True", "GPT2GIGA_API_KEY": KEY, "GPT2GIGA_LOG_LEVEL": "WARNING",
        "GPT2GIGA_LOG_FILENAME": str(folder / "gpt2giga-own.log"), "GIGACHAT_CREDENTIALS": "eDp5",
        "GIGACHAT_BASE_URL": f"{base}/v1", "GIGACHAT_AUTH_URL": f"{base}/oauth", "GIGACHAT_SCOPE": "GIGACHAT_API_CORP",
    }  # fmt: skip
    return Target("gpt2giga", [peer_program("gpt2giga", "gpt2giga")], env, log=folder / "gpt2giga.log")
