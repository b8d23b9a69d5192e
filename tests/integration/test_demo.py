"""The demo as a machine reads it."""

import json
import subprocess
import sys
from pathlib import Path

from securechat.cli.demo.facts import check_delivery


def test_the_demo_holds_every_check() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "securechat", "demo", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["ok"] is True
    assert 20 <= facts["messages"] <= 40
    assert facts["delivered"] == facts["messages"]
    assert (facts["lost"], facts["duplicated"], facts["reordered"]) == (0, 0, 0)
    assert facts["queued_while_offline"] > 1
    assert facts["server_kills"] == 1
    assert facts["audit_verified"]
    assert facts["tamper_detected"]
    assert facts["denied"]


def test_a_malformed_consultation_is_refused_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text('{"turn": 1, "from": "robot", "text": "x"}\n')
    done = subprocess.run(
        [sys.executable, "-m", "securechat", "demo", "--script", str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_delivery_check_sees_what_is_lost_doubled_and_out_of_order() -> None:
    assert check_delivery(["a", "b", "c"], ["a", "b", "c"]).reordered == 0
    assert check_delivery(["a", "b", "c"], ["a", "c"]).lost == 1
    assert check_delivery(["a", "b"], ["a", "b", "b"]).duplicated == 1
    assert check_delivery(["a", "b", "c"], ["b", "a", "c"]).reordered == 2
    assert check_delivery(["a", "b"], ["a", "x"]) == check_delivery(["a", "b"], ["a", "y"])
