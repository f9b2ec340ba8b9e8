// The page: devices on the left, the properties of one of them, messages below.

import { get, listen, post, request } from "./interface.js";
import { Card } from "./cards.js";
import { store } from "./devices.js";
import { element } from "./elements.js";

const MOST_MESSAGES = 200;
const THEMES = ["dark", "red", "light"];

const at = (id) => document.getElementById(id);
const devices = new Map(); // name -> Map of property name -> property
const cards = new Map(); // property name -> Card, of the device that is shown
const changed = new Set(); // names of properties of that device that are to be drawn
let shown = null; // name of the device
let site = null;
let connection = null;
let stopListening = null;
let drawing = false;
let anew = false; // the list of devices or of cards is to be drawn

// -- What the server says

function told(event) {
  if (event.event === "property" || event.event === "delete") {
    if (store(devices, event)) anew = true;
    if (event.event === "property" && event.device === shown) changed.add(event.property);
  } else if (event.event === "message") {
    addMessage(event.received, event.device, event.message);
  } else if (event.event === "link") {
    if (event.connection !== connection || !event.connected) {
      connection = event.connection;
      if (event.connected) devices.clear();
      anew = true;
    }
    linked(event.connected);
  }
  draw();
}

function linked(connected) {
  at("link").textContent = connected ? `connected to ${site.server}` : `no connection to ${site.server}; trying again`;
  at("link").classList.toggle("lost", !connected);
  at("properties").classList.toggle("stale", !connected);
  if (!connected) for (const card of cards.values()) card.curves?.interrupt();
}

function addMessage(time, device, text) {
  const stamp = element("time", { datetime: time, text: new Date(time).toLocaleTimeString() });
  at("messages").prepend(element("li", {}, stamp, document.createTextNode(device === null ? text : `${device}: ${text}`)));
  while (at("messages").childElementCount > MOST_MESSAGES) at("messages").lastElementChild.remove();
}

// -- What is drawn, at most once for each picture of the screen

function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (anew) drawAll();
    for (const name of changed) cards.get(name)?.update(devices.get(shown).get(name));
    changed.clear();
  });
}

function drawAll() {
  anew = false;
  const names = [...devices.keys()].sort((one, other) => one.localeCompare(other));
  // A device that is gone is still the one that is shown: nobody must press a button of another one by mistake.
  if (shown === null) show(names[0] ?? null);
  at("devices").replaceChildren(...names.map((name) =>
    element("button", { type: "button", text: name, "aria-current": String(name === shown), onclick: () => choose(name) })));
  drawCards();
}

function choose(name) {
  if (name === shown) return;
  show(name);
  anew = true;
  draw();
  at("properties").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function show(name) {
  for (const card of cards.values()) card.close();
  cards.clear();
  changed.clear();
  shown = name;
}

function drawCards() {
  const properties = devices.get(shown) ?? new Map();
  for (const [name, card] of cards) {
    if (!properties.has(name)) {
      card.close();
      cards.delete(name);
    }
  }
  const words = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map();
  for (const [name, property] of properties) {
    if (cards.has(name)) cards.get(name).update(property);
    else cards.set(name, new Card(property, site.operates?.includes(shown) ?? true));
    const text = `${name} ${property.label} ${property.group} ${Object.keys(property.members).join(" ")}`.toLowerCase();
    if (!words.every((word) => text.includes(word))) continue;
    const group = property.group || "Main";
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(cards.get(name).element);
  }
  keepFocus(() => {
    at("properties").replaceChildren(...[...groups].map(([group, elements]) =>
      element("section", {}, element("h2", { text: group }), element("div", { class: "cards" }, ...elements))));
    if (!groups.size) at("properties").append(element("p", { text: nothing() }));
  });
}

function nothing() {
  if (devices.has(shown)) return "nothing matches";
  return shown === null ? "no devices yet" : `${shown} is not there`;
}

// Elements that are moved lose the focus: somebody may be typing in one of them.
function keepFocus(work) {
  const focused = document.activeElement;
  work();
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

// -- The head of the page

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  at("theme").textContent = theme;
  localStorage.setItem("theme", theme);
}

at("theme").addEventListener("click", () => {
  setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
});
at("filter").addEventListener("input", () => drawCards());
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !(event.target instanceof HTMLInputElement)) {
    event.preventDefault();
    at("filter").focus();
  }
});
at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { user, token: field } = at("login").elements;
  try {
    await post("/session", user.value ? { user: user.value, password: field.value } : { token: field.value });
    at("login").hidden = true;
    at("login").querySelector("output").textContent = "";
    await start();
  } catch (failure) {
    at("login").querySelector("output").textContent = failure.message;
  }
  field.value = "";
});

at("logout").addEventListener("click", async () => {
  await request("/session", { method: "DELETE", headers: { "Content-Type": "application/json" }, body: "{}" });
  location.reload(); // nothing that was shown remains
});

document.addEventListener("token", () => {
  at("login").hidden = false;
  // Somebody else may log in now, who must not see what the former could.
  devices.clear();
  at("messages").replaceChildren();
  anew = true;
  draw();
});

// Begins anew whenever the connection is lost: logins, and what may be done, may have ended with it.
async function start() {
  stopListening?.();
  const operates = site && String(site.operates);
  let said;
  try {
    site = await get("");
    said = await get("/messages");
  } catch (failure) {
    if (failure.status === 401) at("link").textContent = "log in to see the devices";
    else lost("no answer; trying again");
    return;
  }
  if (operates && operates !== String(site.operates)) show(shown);
  at("logout").hidden = site.user === null;
  at("logout").title = site.user ?? "";
  document.dispatchEvent(new CustomEvent("site", { detail: site }));
  document.title = `${site.server} – indifast`;
  at("messages").replaceChildren();
  const all = [[null, said.messages], ...Object.entries(said.devices)].flatMap(([device, list]) => list.map((each) => [each.time, device, each.message]));
  for (const each of all.sort((one, other) => one[0].localeCompare(other[0]))) addMessage(...each);
  stopListening = listen(told, () => lost("lost the connection to indifast web; trying again"));
}

function lost(why) {
  at("link").textContent = why;
  at("link").classList.add("lost");
  at("properties").classList.add("stale");
  for (const card of cards.values()) card.curves?.interrupt();
  connection = null;
  setTimeout(start, 2000);
}

const theme = localStorage.getItem("theme");
setTheme(THEMES.includes(theme) ? theme : THEMES[0]);
start();
