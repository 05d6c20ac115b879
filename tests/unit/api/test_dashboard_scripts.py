"""The dashboard's modules under Node: what they make of data that is odd, late, torn or refused (`dashboard_checks.mjs`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.tree import ROOT

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node.js on the PATH (Debian, Ubuntu: apt install nodejs)")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each check says, of a copy beside which Node is told that `.js` are modules."""
    folder = tmp_path_factory.mktemp("dashboard") / "modules"
    shutil.copytree(ROOT / "api" / "static" / "dashboard", folder)
    (folder / "package.json").write_text('{"type": "module"}')
    words = [str(NODE), str(Path(__file__).with_name("dashboard_checks.mjs")), str(folder)]
    environment = os.environ | {"TZ": "UTC", "LC_ALL": "en_US.UTF-8"}
    done = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


def test_what_is_not_known_of_a_scan_is_said_in_words(found: dict[str, Any]) -> None:
    words = {name: [text and text.replace("\u00a0", " ") for text in texts] for name, texts in found["words"].items()}

    assert words["reasons"] == ["The position jumped", "New reason", "No reason is known"]
    assert words["sizes"] == ["0 bytes", "1 byte", "512 bytes", "1.5 kB", "2.0 GB"]
    # Numbers of walls mean nothing where there is no plan.
    assert words["parts"] == ["2 of the walls: too little of them was seen", "The ceiling"]
    assert words["lengths"] == [
        "5.203 m ± 1.1 cm",
        "5.000 m ± 0.04 cm",
        "5.000 m ± 0.12 m",
        "20.00 m² ± 0.01 m²",
        "\u2013 not enough evidence",
        "2.000 m ",
    ]
    assert words["ceilings"] == [
        "The ceiling slopes, from 2.10 to 3.00 m: the height is the highest.",
        "The ceiling is not level.",
        None,
        None,
    ]


def test_five_past_midnight_is_not_in_hour_24(found: dict[str, Any]) -> None:
    assert found["midnight"] == "00:05:00"


def test_the_lengths_in_a_plan_of_a_hall_are_not_cut_off(found: dict[str, Any]) -> None:
    plan = found["hall"]

    assert plan["isInside"]
    assert plan["standing"]
    # 24.08 = sqrt(24² + 2²)
    assert plan["texts"] == ["1: 24.00 m", "2: 11.00 m", "3: 24.08 m", "4: 13.00 m"]
    assert plan["walls"] == [24, 11, 24.08, 13]


def test_the_shortest_walls_stand_in_the_table_only(found: dict[str, Any]) -> None:
    plan = found["alcove"]

    assert plan["texts"] == ["P1", "1: 6.00 m", "2: 5.00 m", "3: 2.50 m", "4", "8: 3.10 m", "9: 5.00 m"]
    assert plan["walls"] == [6, 5, 2.5, 1, 0.4, 0.4, 0.6, 3.1, 5]


def test_a_list_drops_what_is_gone_and_an_answer_never_overtakes_an_event(found: dict[str, Any]) -> None:
    assert found["list"] == {
        "more": ["erased"],
        "whole": ["erased", "old"],
        "none": ["new", "erased", "old"],
        "current": ["new"],
    }


def test_an_upload_asks_again_only_where_that_can_help(found: dict[str, Any]) -> None:
    assert found["upload"] == {"offset": [2, "done"], "ended": [1, "not_receiving"], "away": [2, "done"]}


def test_a_page_waits_as_long_as_a_stopping_server_asks(found: dict[str, Any]) -> None:
    # 7 000 ms that the server asked for, and half of the first wait of 500 ms.
    assert found["draining"] == [7_250]


def test_a_slow_server_is_not_asked_again_before_it_has_answered(found: dict[str, Any]) -> None:
    during, after = found["polling"]

    assert (during, after) == (1, 2)


def test_an_answer_cut_in_the_middle_is_a_server_out_of_reach(found: dict[str, Any]) -> None:
    assert found["answers"] == {"torn": [0, "The server cannot be reached."], "empty": None}


def test_usage_names_the_periods_last_day_and_is_read_again_by_itself(found: dict[str, Any]) -> None:
    # It ends in the middle of 5 December. Two events make one more reading, and what fails then changes nothing.
    assert found["usage"] == {
        "period": "This period: Nov 5, 2026 to Dec 5, 2026 (UTC)",
        "cells": ["\u2013", "2"],
        "waits": [30_000],
        "reads": 2,
        "stays": True,
    }


def test_a_scans_page_keeps_what_is_newest_and_goes_with_the_scan(found: dict[str, Any]) -> None:
    # An event came while the first answer was on its way; a second one never came; the third says that nothing is there.
    assert found["scan"] == {"overtaken": ["Completed", "No reason is known"], "stays": True, "went": ["#/scans"]}


def test_the_list_of_scans_keeps_what_is_newest(found: dict[str, Any]) -> None:
    assert found["scans"] == {"first": ["Kitchen", "Completed"], "stays": True, "empty": True}


def test_what_is_new_in_the_bells_list_stays_marked_while_it_is_open(found: dict[str, Any]) -> None:
    # Names of places arrive, another event, and an answer that was on its way when the event came.
    assert found["bell"] == {
        "unread": True,
        "opened": [["earlier", True]],
        "redrawn": [["earlier", True]],
        "joined": [["later", True], ["earlier", True]],
        "read": True,
    }


def test_a_cloud_that_grows_or_moves_stays_in_the_picture(found: dict[str, Any]) -> None:
    # Spheres around cubes of 2 m and 4 m have radii of sqrt(3) and 2 sqrt(3); at 1.732 / sin 0.4 one just fits.
    # Then somebody came nearer (0.8), and that stays.
    assert found["scene"] == [[0, 0, 4.45], [0, 0, 8.9], [0, 0, 7.12]]
