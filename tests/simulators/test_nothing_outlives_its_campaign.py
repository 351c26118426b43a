"""Whoever kills a campaign, or the tests, does not have to look for what they had started."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

CAMPAIGN = """
import sys, time
from pathlib import Path
from campaigns.stage import simulators

with simulators(Path(sys.argv[1])) as vendors:
    print(vendors.process.pid, flush=True)
    time.sleep(60)
"""


def test_simulators_die_with_a_campaign_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CAMPAIGN, str(tmp_path)]
    place = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=place) as campaign:
        try:
            assert campaign.stdout is not None
            vendors = psutil.Process(int(campaign.stdout.readline()))
            assert lives(vendors)
        finally:
            campaign.kill()
    deadline = time.perf_counter() + 20
    while lives(vendors) and time.perf_counter() < deadline:
        time.sleep(0.01)
    assert not lives(vendors)


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
