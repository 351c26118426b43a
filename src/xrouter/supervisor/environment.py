"""Settings on their way to a worker: the environment from which it reads them again."""

import os
from collections.abc import Mapping
from pathlib import Path

from xrouter.core.secret import Secret
from xrouter.settings import Settings
from xrouter.telemetry.shared_dir import VARIABLE


def environment_for(settings: Settings, metrics_dir: Path) -> Mapping[str, str]:
    """This process's environment with every setting as it is in force here.

    `load_settings()` in the worker gives equal settings, whether they came from the environment or from the
    command line. The worker runs as the same user, who can read this process's environment anyway.
    """
    environment = dict(os.environ)  # noqa: TID251 - handed on as it is, no setting is read here
    prefix = settings.model_config["env_prefix"]
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        variable = (prefix + name).upper()
        environment.pop(f"{variable}_FILE", None)  # what stands in it is handed on
        if value is None:
            environment.pop(variable, None)
        else:
            environment[variable] = _text(value)
    environment[VARIABLE] = str(metrics_dir)
    return environment


def _text(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(value)
