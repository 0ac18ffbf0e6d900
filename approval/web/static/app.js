// Life for pages that work without it: updates, countdowns, keys. It never turns text into markup;
// what it puts on the page are elements that the browser parsed from the server's own pages.
"use strict";

const FRESH_MS = 400; // a card that just came under the pointer ignores clicks for so long
const SILENCE_MS = 40000; // three missed signs of life: something between us swallows the stream
const POLL_MS = 10000;

const inbox = document.getElementById("pending");
const page = document.querySelector("[data-page]");
const pill = document.getElementById("fresh");
const say = document.getElementById("say");
const waiting = new Map(); // calls that came while somebody reads, in the order they came
const busy = new Set();
const fetching = new Map();
let offset = Number(document.body.dataset.now || Date.now()) - Date.now();
let heard = Date.now();
let stream = null;

// --- time: the server's clock counts, whatever this machine's says ---

const now = () => Date.now() + offset;

function span(seconds) {
  const two = (n) => String(n).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)}:${two(seconds % 60)}`;
  const hours = Math.floor(seconds / 3600);
  return hours < 24
    ? `${hours}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`
    : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function past(seconds) {
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

function tick() {
  for (const each of document.querySelectorAll("[data-until]")) {
    const seconds = Math.max(0, Math.ceil((Number(each.dataset.until) - now()) / 1000));
    each.textContent = seconds ? `${span(seconds)} left` : "time is up";
    each.classList.toggle("soon", seconds <= 60);
    const card = each.closest("[data-call]");
    if (seconds === 60 && card && !each.dataset.told) {
      each.dataset.told = "1";
      announce(`One minute left: ${card.dataset.title}`);
    }
  }
  for (const each of document.querySelectorAll("[data-ago]")) {
    each.textContent = past(Math.floor((now() - Date.parse(each.dateTime)) / 1000));
  }
}

// --- what the page says ---

const announce = (text) => say && (say.textContent = text);

function count() {
  if (!inbox) return;
  const open = inbox.querySelectorAll('[data-state="pending"]').length;
  const all = open + waiting.size;
  document.title = document.title.replace(/^(\(\d+\) )?/, all ? `(${all}) ` : "");
  inbox.querySelector(".empty").hidden = inbox.querySelector("[data-call]") !== null;
  pill.hidden = waiting.size === 0;
  pill.textContent = `${waiting.size} new`;
}

// --- fetching: an XHR parses the answer into a document of its own ---

function parsed(path) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("GET", path);
    request.responseType = "document";
    request.onload = () => resolve(request);
    request.onerror = () => resolve(null);
    request.send();
  });
}

async function fetched(id) {
  const answer = await parsed(page ? `/calls/${id}${location.search}` : `/calls/${id}/card`);
  if (answer && answer.status === 401) location.reload();
  if (!answer || answer.status !== 200) return null;
  const card = answer.responseXML && answer.responseXML.querySelector(`[data-call="${id}"]`);
  return card && document.adoptNode(card);
}

// One fetch at a time for each call; what changes meanwhile is fetched once more.
async function refresh(id) {
  if (fetching.has(id)) {
    fetching.set(id, true);
    return;
  }
  do {
    fetching.set(id, false);
    const fresh = await fetched(id);
    if (fresh) place(id, fresh);
  } while (fetching.get(id));
  fetching.delete(id);
}

function place(id, fresh) {
  const old = document.querySelector(`[data-call="${id}"]`);
  if (old) swap(old, fresh);
  else if (fresh.dataset.state !== "pending") waiting.delete(id);
  else if (inbox && document.querySelector('#pending [data-state="pending"]')) waiting.set(id, fresh);
  else if (inbox) add(fresh);
  if (waiting.has(id) && !old) announce(`New: ${fresh.dataset.title}`);
  count();
  tick();
}

function add(card) {
  card.dataset.since = String(performance.now());
  inbox.insertBefore(card, inbox.querySelector(".empty"));
}

function swap(old, fresh) {
  const changed = old.dataset.state !== fresh.dataset.state || old.dataset.version !== fresh.dataset.version;
  if (!changed && !busy.has(old.dataset.call) && old.dataset.line === fresh.dataset.line) return;
  keepWords(old, fresh);
  const at = old.contains(document.activeElement) ? document.activeElement.name : null;
  // What is below must not move up under a pointer.
  if (!page) fresh.style.minHeight = `${old.getBoundingClientRect().height}px`;
  fresh.dataset.since = String(performance.now());
  old.replaceWith(fresh);
  if (at !== null) (fresh.querySelector(`:is(textarea, input)[name="${at}"]`) || fresh).focus({ preventScroll: true });
  if (changed) announce(`${fresh.dataset.title}. ${fresh.dataset.story}`);
}

function keepWords(old, fresh) {
  for (const to of fresh.querySelectorAll("textarea, input[name=amount]")) {
    const from = old.querySelector(`[action="${to.form.getAttribute("action")}"] [name="${to.name}"]`);
    if (from) to.value = from.value;
    if (from && to.closest("details")) to.closest("details").open = from.closest("details").open;
  }
}

// --- deciding ---

const loaded = performance.now();

// The page may have changed since the finger began to fall.
document.addEventListener(
  "click",
  (event) => {
    const card = event.target.closest("[data-call]");
    const acts = event.target.closest("button, .button");
    if (!card || !acts) return;
    if (performance.now() - Number(card.dataset.since || loaded) < FRESH_MS) event.preventDefault();
  },
  true,
);

const REFUSED = {
  503: "The store is away and nothing was changed. Try again in a moment.",
  any: "Nothing was changed. Reload the page and look again.",
};
const why = async (answer) => `Nothing was changed: ${(await answer.json()).detail}`;

function complain(id, text) {
  const note = document.createElement("p");
  note.className = "warn";
  note.setAttribute("role", "alert");
  note.textContent = text;
  const card = document.querySelector(`[data-call="${id}"]`);
  for (const old of card.querySelectorAll(":scope > [role=alert]")) old.remove();
  card.prepend(note);
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  const card = form.closest("[data-call]");
  if (!card || !form.matches(".decide") || !event.submitter) return;
  event.preventDefault();
  const id = card.dataset.call;
  if (busy.has(id)) return;
  busy.add(id);
  const fields = new URLSearchParams(new FormData(form, event.submitter));
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  try {
    // A redirect means done: the card is fetched anew either way, and tells.
    const headers = { Accept: "application/problem+json" };
    const answer = await fetch(form.action, { method: "POST", body: fields, redirect: "manual", headers });
    if (answer.status === 401) return location.assign(`/calls/${id}`);
    await refresh(id);
    const told = [409, 422].includes(answer.status) ? await why(answer) : REFUSED[answer.status];
    if (answer.type !== "opaqueredirect") complain(id, told || REFUSED.any);
  } catch {
    complain(id, "The service could not be reached. Look again before you decide anew.");
  } finally {
    busy.delete(id);
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  }
});

// --- hearing of changes ---

function happened(call) {
  if (inbox || document.querySelector(`[data-call="${call.id}"]`)) refresh(call.id);
}

function compare(snapshot) {
  offset = Date.parse(snapshot.now) - Date.now();
  const told = new Map(snapshot.calls.map((call) => [call.id, call]));
  for (const card of document.querySelectorAll("[data-call]")) {
    const call = told.get(card.dataset.call);
    const open = ["pending", "approved", "executing", "in_doubt"].includes(card.dataset.state);
    if (call ? String(call.version) !== card.dataset.version : open) refresh(card.dataset.call);
    told.delete(card.dataset.call);
  }
  for (const id of waiting.keys()) if (!told.delete(id)) waiting.delete(id);
  if (inbox) for (const call of [...told.values()].reverse()) if (call.state === "pending") refresh(call.id);
  count();
}

function listen() {
  if (stream) stream.close();
  stream = new EventSource("/events");
  const on = (name, act) => stream.addEventListener(name, (event) => {
    heard = Date.now();
    act(JSON.parse(event.data));
  });
  on("call", happened);
  on("snapshot", compare);
  on("clock", (clock) => (offset = Date.parse(clock.now) - Date.now()));
  heard = Date.now();
}

async function poll() {
  if (stream.readyState === EventSource.OPEN && Date.now() - heard < SILENCE_MS) return;
  const answer = await fetch("/snapshot").catch(() => null);
  if (answer && answer.status === 401) location.reload();
  if (!answer || !answer.ok) return;
  compare(await answer.json());
  if (stream.readyState === EventSource.CLOSED) listen();
}

// --- keys: letters move the focus, Enter presses; so nothing is decided by a slip ---

const help = document.getElementById("keys");
const choice = document.getElementById("use-keys");

function move(step) {
  const cards = [...document.querySelectorAll("main [data-call]")];
  const at = cards.indexOf(document.activeElement.closest("[data-call]"));
  const next = cards[Math.min(cards.length - 1, Math.max(0, at + step))];
  if (next) next.focus();
}

function reach(kind) {
  const card = document.activeElement.closest("[data-call]") || page || document.querySelector("[data-call]");
  const button = card && card.querySelector(`.decide .${kind}`);
  if (button) button.focus();
}

function reveal() {
  const first = [...waiting.values()][0];
  for (const card of waiting.values()) add(card);
  waiting.clear();
  count();
  tick();
  if (first) first.focus();
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  a: () => reach("yes"),
  d: () => reach("no"),
  n: reveal,
  "?": () => help.showModal(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog");
  const plain = !event.ctrlKey && !event.altKey && !event.metaKey;
  const off = choice && !choice.checked && event.key !== "?";
  if (!help || typing || !plain || off || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

for (const each of document.querySelectorAll("[data-script]")) each.hidden = false;
if (choice) {
  choice.checked = localStorage.getItem("keys") !== "off";
  choice.addEventListener("change", () => localStorage.setItem("keys", choice.checked ? "on" : "off"));
}
if (pill) pill.addEventListener("click", reveal);
if (inbox || page) {
  listen();
  setInterval(poll, POLL_MS);
}
tick();
setInterval(tick, 1000);
