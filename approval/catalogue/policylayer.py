"""Import the JSON of PolicyLayer's hosted gateway, with the short forms of its tool pages.

Its rules mean here what they mean there, so they are copied as they stand. Limits on how often are
spelt our way, and so is `action: deny`, which no schema describes but its pages show.
"""

from approval.catalogue.carrying import (
    MOST_IN_A_RING,
    WINDOWS,
    Block,
    Draft,
    algorithm,
    conditions,
    entry,
    exact_name,
    judged,
    whole,
)
from approval.core.canonical import quoted
from approval.core.document import Place, kind, shown
from approval.core.spans import LONGEST
from approval.core.vocabulary import ENTRY

TOP = frozenset({"version", "default", "hide", "tools", "all_tools"})
TOOL = frozenset({"require", "deny_if", "limits", "rate_limit", "action", "reason"})
LIMIT = frozenset({"counter", "window", "max", "scope"})


def carry(root: Place) -> Draft:
    """Import a document; what cannot be carried over is complained of at its place."""
    draft = Draft()
    _strays(root, TOP, "a PolicyLayer policy")
    if root.at("version").value != "1":
        root.at("version").complain('this must be the text "1"; write "version": "1"')
    if root.at("default").value not in ("allow", "deny"):
        root.at("default").complain('it must say "allow" or "deny"; what is meant is not guessed')
    draft.top["default"] = root.at("default").value
    _hide(root, draft)
    if root.has("tools"):
        for name, place in root.at("tools").members():
            if name == "*" or exact_name(place, name):
                _tool(place, draft.tool(place, name), draft)
    if root.has("all_tools"):
        place = root.at("all_tools")
        _strays(place, frozenset({"limits"}), "all_tools")
        block = Block(pointer=place.pointer)
        _limits(place, block, draft)
        draft.all_tools.append(block)
    return draft


def _strays(place: Place, keys: frozenset[str], what: str) -> None:
    for key, stray in place.strays(keys):
        why = _KNOWN.get(key, "what it would restrict cannot be carried over; write it as a rule")
        stray.complain(f"{quoted(key)} is not known in {what}: {why}, or remove it")


_KNOWN = {
    "spend_limit": "no document says which argument holds the amount; give the tool a spend",
    "rules": "this is Intercept's, whose conditions mean the opposite; import it as intercept",
    "type": "wallet templates judge payments, not tool calls; give the tool a spend",
    "maxAmount": "wallet templates judge payments, not tool calls; give the tool a spend",
}


def _hide(root: Place, draft: Draft) -> None:
    place = root.at("hide")
    if not root.has("hide"):
        return
    draft.top["hide"] = place.value
    if place.value == "*":
        return
    if isinstance(place.value, str):
        place.complain('this is text; write a list of tools, or "*" for all of them')
        return
    for each in place.names():
        exact_name(each, str(each.value))


def _tool(place: Place, block: Block, draft: Draft) -> None:
    _strays(place, TOOL, "a tool")
    for key in ("require", "deny_if"):
        if place.has(key):
            block.rules[key] = []
            for each in place.at(key).elements():
                _copy(each, key, block)
    _action(place, block, draft)
    _limits(place, block, draft)
    if place.has("rate_limit"):
        _rate_limit(place.at("rate_limit"), block, draft)


def _copy(place: Place, key: str, block: Block) -> None:
    if not isinstance(place.value, dict):
        place.complain(f"this is {kind(place.value)}; write {{conditions, on_deny}}")
        return
    _strays(place, ENTRY, f"a rule of {key}")
    found = judged(conditions(place.at("conditions")))
    if key == "require" and not found:
        place.complain("without conditions this requires nothing; say what must hold")
    entry([], place.at("on_deny"))  # for its complaint
    block.add(key, dict(place.value))


def _action(place: Place, block: Block, draft: Draft) -> None:
    action, reason = place.at("action"), place.at("reason")
    if action.value == "deny":
        after = block.add("deny_if", entry([], reason))
        draft.note(action, after, "denies always; no schema describes this form")
    elif action.value is not None:
        action.complain(f'this is {shown(action.value)}; only "deny" is understood: write a rule')
    elif reason.value is not None:
        reason.complain("there is no action that this would be the reason of; remove it")


# --- limits on how often ---


def _limits(place: Place, block: Block, draft: Draft) -> None:
    if not place.has("limits"):
        return
    seen: set[tuple[str, object]] = set()
    for each in place.at("limits").elements():
        if not isinstance(each.value, dict):
            each.complain(f"this is {kind(each.value)}; write {{counter, window, max, scope}}")
            continue
        _strays(each, LIMIT, "a limit")
        _limit(each, block, draft)
        counter = (each.at("counter").text(), str(each.at("window").value))
        if counter in seen:
            each.complain("this counter has this window already; keep one of the two")
        seen.add(counter)


def _limit(place: Place, block: Block, draft: Draft) -> None:
    window, scope, most = place.at("window"), place.at("scope"), whole(place.at("max"), least=0)
    if window.value not in list(WINDOWS):
        window.complain(f"this is {shown(window.value)}; write minute, hour or day")
    if place.has("scope") and scope.value != "grant":
        scope.complain(
            f"this is {shown(scope.value)}; only grant is described anywhere: write rate_limit with"
            " the scope that is meant"
        )
    if most == 0:
        _never(place, block, draft)
    elif most is not None and isinstance(place.value, dict):
        after = block.add("limits", {**place.value, **algorithm(most)})
        whom = "each agent, who bears what was a grant" if scope.value else "all agents together"
        how = "in a window that slides" if most <= MOST_IN_A_RING else "by the calendar in UTC"
        what = f"counted for {whom}, {how}, apart from counters of that name elsewhere"
        draft.note(place, after, what, stricter=most <= MOST_IN_A_RING)


def _never(place: Place, block: Block, draft: Draft) -> None:
    draft.note(place, block.add("deny_if", {"conditions": []}), "admits nothing: denies always")


def _rate_limit(place: Place, block: Block, draft: Draft) -> None:
    if not isinstance(place.value, dict):
        place.complain(f"this is {kind(place.value)}; write {{max, window}}, the window in seconds")
        return
    _strays(place, frozenset({"max", "window"}), "a rate_limit")
    longest = round(LONGEST.total_seconds())
    most = whole(place.at("max"), least=0, most=MOST_IN_A_RING)
    window = whole(place.at("window"), least=1, most=longest)
    if most == 0:
        _never(place, block, draft)
        return
    block.rules["rate_limit"] = {"max": most, "window": window, "scope": "agent"}
    what = "counted for each agent, whatever its sessions; no schema describes this form"
    draft.note(place, place.pointer, what, stricter=True)
