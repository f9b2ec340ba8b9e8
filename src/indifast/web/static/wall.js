// A page for the wall: whether all is well, how cold it is, and how long an exposure still takes. Nothing to press.

import { store } from "./devices.js";
import { element } from "./elements.js";
import { get, listen } from "./interface.js";

const TEMPERATURE = /temp/i;
const SETTING = /ramp|setting|offset|coef|slope|step/i; // of temperatures, which are none
const EXPOSURE = /EXPOSURE$/;
const THEMES = ["dark", "red", "light"];
const MOST = 8; // temperatures of a device

const at = (id) => document.getElementById(id);
const devices = new Map();
const whole = new Map(); // property of an exposure -> seconds that it takes
let connection = null;
let drawing = false;
let site = null;
let stopListening = null;

function told(event) {
  if (event.event === "link") {
    if (event.connection !== connection) devices.clear();
    connection = event.connection;
    linked(event.connected ? site.server : `no connection to ${site.server}`, event.connected);
  } else if (event.event === "property" || event.event === "delete") {
    store(devices, event);
    if (event.event === "property" && EXPOSURE.test(event.property)) expose(event);
  } else return;
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(draw);
}

// Cameras count down what is left: the most of it that was seen is how long the exposure takes.
function expose({ device, property, content }) {
  const key = JSON.stringify([device, property]);
  const left = Math.max(0, ...Object.values(content.members).map((member) => member.value ?? 0));
  if (content.state !== "Busy") whole.delete(key);
  else whole.set(key, Math.max(whole.get(key) ?? 0, left));
}

function linked(text, well) {
  at("link").textContent = text;
  at("link").classList.toggle("lost", !well);
  at("wall").classList.toggle("stale", !well);
}

// -- What is drawn

function draw() {
  drawing = false;
  const names = [...devices.keys()].sort((one, other) => one.localeCompare(other));
  at("wall").replaceChildren(...names.map((name) => tile(name, devices.get(name))));
  if (!names.length) at("wall").append(element("p", { text: "no devices yet" }));
}

function tile(name, properties) {
  const made = element("section", { class: "tile" }, element("h2", { text: name }));
  if (properties.get("CONNECTION")?.members.CONNECT?.value === false) {
    made.classList.add("off");
    made.append(line("not connected"));
    return made;
  }
  const all = [...properties.values()];
  for (const property of all) if (property.type === "number" && EXPOSURE.test(property.property)) made.append(...exposure(property));
  made.append(...all.flatMap(temperatures).slice(0, MOST));
  for (const property of all) if (property.type === "light") made.append(...lights(property));
  for (const property of all) if (property.state === "Alert" || (property.state === "Busy" && !EXPOSURE.test(property.property))) made.append(state(property));
  return made;
}

function line(name, ...values) {
  return element("div", { class: "line" }, element("span", { class: "name", text: name }), ...values);
}

function exposure(property) {
  const takes = whole.get(JSON.stringify([property.device, property.property]));
  if (property.state !== "Busy" || !takes) return [];
  const left = Math.max(0, ...Object.values(property.members).map((member) => member.value ?? 0));
  const text = `${left < 10 ? left.toFixed(1) : Math.round(left)} s`;
  const title = property.label || property.property;
  const bar = element("progress", { max: takes, value: takes - left, "aria-label": title });
  return [line(title, element("output", { class: "number", text })), bar];
}

function temperatures(property) {
  if (property.type !== "number" || SETTING.test(property.property)) return [];
  const about = [property.property, property.label];
  return Object.entries(property.members)
    .filter(([name, member]) => member.value !== null && [...about, name, member.label].some((text) => TEMPERATURE.test(text)))
    .map(([name, member]) => line(named(property, member.label || name), element("output", { class: "number", text: member.shown })));
}

// Labels of members alone may be no more than a unit.
function named(property, label) {
  const whole = property.label || property.property;
  return label.toLowerCase().includes(whole.toLowerCase()) ? label : `${whole}, ${label}`;
}

function lights(property) {
  return Object.entries(property.members).map(([name, member]) =>
    line(member.label || name, element("output", { class: `lamp ${member.value}`, text: member.value })));
}

function state(property) {
  const made = line(property.label || property.property, element("output", { class: `state ${property.state}`, text: property.state }));
  if (property.state === "Alert" && property.message) made.append(element("span", { class: "message", text: property.message }));
  return made;
}

// -- The connection

async function start() {
  stopListening?.();
  stopListening = null;
  try {
    site = await get("");
  } catch (failure) {
    again(failure.status === 401 ? "log in on the other page first" : "no answer; trying again");
    return;
  }
  document.title = `${site.server} – wall`;
  stopListening = listen(told, () => again("lost the connection to indifast web; trying again"));
}

function again(why) {
  linked(why, false);
  connection = null;
  setTimeout(start, 2000);
}

function tick() {
  at("clock").textContent = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function paint() {
  const wanted = [location.hash.slice(1), localStorage.getItem("theme")].find((each) => THEMES.includes(each));
  document.documentElement.dataset.theme = wanted ?? THEMES[0];
}

window.addEventListener("hashchange", paint);
paint();
tick();
setInterval(tick, 1000);
start();
