"""The trail's own bytes: canonical, chained, and refusing what they cannot hold."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from approval.core.audit import GENESIS, Entry, Tag, Written, is_passing, link, write
from approval.errors import Unreadable
from tests.factories import NOW

ENTRY = Entry(tag=Tag.CALL_DENY, subject="apr_1", actor="policy", facts={"b": 1, "a": ["é", None]})
BODY = (
    '{"actor":"policy","at":"2026-11-21T12:00:00.000000+00:00","facts":{"a":["é",null],"b":1},'
    '"seq":1,"subject":"apr_1","tag":"call:deny"}'
).encode()


def test_an_entry_is_written_in_one_form_and_linked_to_the_one_before() -> None:
    digest = hashlib.sha256(b"\x01" + bytes(32) + BODY).digest()
    written = write(ENTRY, seq=1, at=NOW, previous=GENESIS)
    assert written == Written(seq=1, body=BODY, hash=digest)
    assert link(GENESIS, BODY) == digest


@pytest.mark.parametrize(
    "changed",
    [
        write(replace(ENTRY, tag=Tag.CALL_ALLOW), seq=1, at=NOW, previous=GENESIS),
        write(replace(ENTRY, subject="apr_2"), seq=1, at=NOW, previous=GENESIS),
        write(replace(ENTRY, actor="clock"), seq=1, at=NOW, previous=GENESIS),
        write(replace(ENTRY, facts={}), seq=1, at=NOW, previous=GENESIS),
        write(ENTRY, seq=2, at=NOW, previous=GENESIS),
        write(ENTRY, seq=1, at=NOW + timedelta(microseconds=1), previous=GENESIS),
        write(ENTRY, seq=1, at=NOW, previous=bytes(31) + b"\x01"),
    ],
)
def test_every_part_of_an_entry_and_its_place_change_the_hash(changed: Written) -> None:
    assert changed.hash != write(ENTRY, seq=1, at=NOW, previous=GENESIS).hash


@pytest.mark.parametrize(
    "spoilt",
    [
        replace(ENTRY, subject="\ud800"),
        replace(ENTRY, actor="person:\udcff"),
        replace(ENTRY, facts={"reason": "\ud800"}),
        replace(ENTRY, facts={"number": 2**70}),
        replace(ENTRY, facts={"value": object()}),
    ],
)
def test_what_json_cannot_hold_is_refused_and_named(spoilt: Entry) -> None:
    with pytest.raises(Unreadable, match="the trail cannot hold this call:deny") as refused:
        write(spoilt, seq=1, at=NOW, previous=GENESIS)
    assert refused.value.reason == "entry"


def test_no_two_tags_are_the_same_word() -> None:
    assert len(Tag.__members__) == len({tag.value for tag in Tag})


@pytest.mark.parametrize("tag", Tag)
def test_only_entries_of_calls_without_a_record_are_filed_nowhere(tag: Tag) -> None:
    passing = tag in {"call:allow", "call:answer", "call:deny"}
    entry = Entry(tag=tag, subject="apr_1", actor="policy", facts={"codes": []})
    kept = replace(entry, facts={"version": 1})
    assert (is_passing(tag, entry.facts), is_passing(tag, kept.facts)) == (passing, False)
    assert (entry.filed_under, kept.filed_under) == ("" if passing else "apr_1", "apr_1")
