"""Commands on the trail, held against what an outsider can compute."""

import hashlib
import json
import sqlite3
from pathlib import Path

from approval.cli.terminal import Exit
from tests.cli.desk import ANN, desk


def test_a_trail_that_holds_is_said_to_and_its_head_is_shown(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    assert at.run("approve", call.id, token=ANN).code == 0

    ended = at.run("audit", "verify")
    assert (ended.code, "The trail holds." in ended.out) == (0, True)
    document = at.run("audit", "verify", "--json").document
    assert document["problems"] == []
    assert document["calls"] == 1
    head = str(document["head"])
    later = at.hold({"phone_number": "+2"})
    assert later.id != call.id
    assert at.run("audit", "verify", "--head", head).code == 0
    assert at.run("audit", "verify", "--head", "0:" + "0" * 64).code == 0


def test_a_head_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.hold()
    ended = at.run("audit", "verify", "--head", "1:" + "ab" * 32, "--json")
    assert ended.code == Exit.REFUSED
    assert ended.document["problems"] == [
        f"the trail does not hold 1:{'ab' * 32}: its end is gone, or was replaced"
    ]
    assert at.run("audit", "verify", "--head", "99:" + "ab" * 32).code == Exit.REFUSED
    assert "is not a head" in at.run("audit", "verify", "--head", "rubbish").err


def test_a_changed_entry_is_found(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.hold()
    with sqlite3.connect(tmp_path / "approval.db") as database:
        changed = "UPDATE audit SET body = replace(CAST(body AS TEXT), 'ops-agent', 'ops-bgent')"
        try:
            database.execute(changed)
        except sqlite3.IntegrityError:
            triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in triggers.fetchall():
                database.execute(f'DROP TRIGGER "{name}"')
            database.execute(changed)
    database.close()
    ended = at.run("audit", "verify")
    assert ended.code == Exit.REFUSED
    assert "The trail does not hold" in ended.err


def test_the_tail_is_the_last_entries_in_order(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    assert at.run("reject", call.id, token=ANN).code == 0
    for number in range(7):
        at.hold({"phone_number": str(number)})

    entries = at.run("audit", "tail", "-n", "3", "--json").document["entries"]
    assert isinstance(entries, list)
    total = int(str(at.run("audit", "verify", "--json").document["entries"]))
    assert [entry["seq"] for entry in entries] == [total - 2, total - 1, total]
    shown = at.run("audit", "tail").out
    assert "call:reject" in shown
    assert "person:ann" in shown
    assert at.run("audit", "tail", "-n", "0").code == Exit.USAGE


def test_an_export_can_be_checked_by_a_stranger(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.hold()
    at.hold({"phone_number": "+2"})
    target = tmp_path / "trail.jsonl"
    ended = at.run("audit", "export", "--out", str(target))
    assert ended.code == 0

    previous = bytes(32)
    for number, line in enumerate(target.read_text().splitlines(), start=1):
        entry = json.loads(line)
        digest = hashlib.sha256(b"\x01" + previous + entry["body"].encode()).digest()
        assert (entry["seq"], entry["previous"]) == (number, previous.hex())
        assert entry["hash"] == digest.hex()
        previous = digest
    assert previous.hex() in ended.err
    assert at.run("audit", "export").out == target.read_text()


def test_an_export_overwrites_nothing(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.hold()
    (tmp_path / "kept").write_text("kept")
    ended = at.run("audit", "export", "--out", str(tmp_path / "kept"))
    assert (ended.code, (tmp_path / "kept").read_text()) == (Exit.REFUSED, "kept")
    nowhere = at.run("audit", "export", "--out", str(tmp_path / "no" / "where"))
    assert "cannot be written: No such file" in nowhere.err
