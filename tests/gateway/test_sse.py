"""Events come out as they went in, however the stream is cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.errors import Unreadable
from approval.gateway.sse import MAX_EVENT, Event, Reader, write_comment, write_event


def events_of(*chunks: bytes) -> list[Event]:
    reader = Reader()
    return [event for chunk in chunks for event in reader.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [Event(data=b"a")]),
        (b"data: a\r\n\r\n", [Event(data=b"a")]),
        (b"data: a\r\r", [Event(data=b"a")]),
        (b"data:a\n\n", [Event(data=b"a")]),
        (b"data:  a\n\n", [Event(data=b" a")]),
        (b"data: a\ndata: b\ndata\n\n", [Event(data=b"a\nb\n")]),
        (b"data:\n\n", [Event(data=b"")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event(data=b"a")]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [Event(data=b"a")]),
        (b"event: message\nid: 7\nretry: 1500\ndata: {}\n\n",
         [Event(data=b"{}", event="message", id="7", retry=1500)]),
        (b"id: 1\ndata:\n\n", [Event(data=b"", id="1")]),
        (b"id: 1\n\n", [Event(id="1")]),
        (b"id\n\n", [Event(id="")]),
        (b"retry: 10\n\n", [Event(retry=10)]),
        (b"retry: 1x\nretry: -1\nretry: 9999999999\n\n", []),
        (b"id: a\0b\ndata: x\n\n", [Event(data=b"x")]),
        (b": comment\n\n", []),
        (b": ping\n\n: ping\r\n\r\ndata: a\n\n", [Event(data=b"a")]),
        (b"Data: a\nother: b\n\n", []),
        (b"data: a", []),
        (b"data: a\n", []),
        (b"\n\n\n\r\n\r", []),
        (b"data: a\n\ndata: b\n\n", [Event(data=b"a"), Event(data=b"b")]),
        (b"data: \xff\xed\xa0\x80\n\n", [Event(data=b"\xff\xed\xa0\x80")]),
        ("data: \u2028\x85\x0b\n\n".encode(), [Event(data="\u2028\x85\x0b".encode())]),
    ],
)  # fmt: skip
def test_a_stream_is_read_as_the_standard_says(stream: bytes, events: list[Event]) -> None:
    assert events_of(stream) == events
    assert events_of(*(stream[at : at + 1] for at in range(len(stream)))) == events


def test_an_empty_chunk_between_cr_and_lf_makes_no_line() -> None:
    assert events_of(b"data: a\r", b"", b"\ndata: b\n\n") == [Event(data=b"a\nb")]
    assert events_of(b"data: a\r", b"\n", b"\r", b"\n", b"\n") == [Event(data=b"a")]


def test_an_event_is_bounded_to_the_byte() -> None:
    assert Reader(limit=9).feed(b"data: a\n\n" * 5) == [Event(data=b"a")] * 5
    with pytest.raises(Unreadable) as refused:
        Reader(limit=8).feed(b"data: a\n\n")
    assert refused.value.reason == "event_too_large"
    reader = Reader()
    for _ in range(16):
        assert reader.feed(b"x" * (MAX_EVENT // 16)) == []
    with pytest.raises(Unreadable):
        reader.feed(b"x")


def test_events_are_written_for_every_reader() -> None:
    event = Event(data=b'{"a":1}', event="message", id="7", retry=5)
    assert write_event(event) == b'event: message\nid: 7\nretry: 5\ndata: {"a":1}\n\n'
    assert write_event(Event(data=b"a\r\nb\rc\n")) == b"data: a\ndata: b\ndata: c\ndata: \n\n"
    assert write_event(Event(id="", retry=0)) == b"id: \nretry: 0\n\n"
    assert write_comment() == b": \n\n"
    assert events_of(write_comment("still here")) == []


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_no_field_breaks_out_of_its_line(text: str) -> None:
    for event in (Event(event=text), Event(id=text)):
        with pytest.raises(Unreadable):
            write_event(event)
    with pytest.raises(Unreadable):
        write_comment(text)


FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8)
EVENTS = st.lists(
    st.builds(
        Event,
        data=st.binary(max_size=20).map(lambda data: data.replace(b"\r", b"")),
        event=FIELD,
        id=st.none() | FIELD,
        retry=st.none() | st.integers(0, 999_999_999),
    ),
    max_size=4,
)


@given(EVENTS, st.lists(st.integers(0, 200)), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_what_is_written_is_read_again_however_it_is_cut(
    events: list[Event], cuts: list[int], ending: bytes
) -> None:
    stream = b"".join(map(write_event, events)).replace(b"\n", ending)
    edges = [0, *sorted(cuts), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(edges)]
    assert events_of(*chunks) == events
