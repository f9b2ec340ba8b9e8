// The drivers that may be started and stopped, if the server has a list of them. Asked for again and again while it is open.

import { get, post, wordOf } from "./interface.js";
import { element } from "./elements.js";

const PAUSE = 2000; // milliseconds

const at = (id) => document.getElementById(id);
const rows = new Map(); // name -> parts of a row
let timer = null;

class Row {
  constructor(name) {
    this.name = name;
    this.state = element("span", { class: "state" });
    this.button = element("button", { type: "button", onclick: () => this.press() });
    this.note = element("p", { class: "note", role: "status", hidden: true });
    this.lines = element("pre", { class: "note", hidden: true });
    const top = element("div", { class: "top" }, element("h3", { text: name }), this.state);
    this.element = element("div", { class: "card" }, top, element("div", { class: "buttons" }, this.button), this.note, this.lines);
  }

  update(driver, mayCommand) {
    this.runs = !["stopped", "failed"].includes(driver.state);
    this.state.textContent = driver.state === "waiting" ? `waiting, restart ${driver.restarts}` : driver.state;
    this.state.className = `state ${{ running: "Ok", stopped: "Idle", failed: "Alert" }[driver.state] ?? "Busy"}`;
    this.button.textContent = this.runs ? "Stop" : "Start";
    this.button.setAttribute("aria-label", `${this.button.textContent} ${this.name}`);
    this.button.hidden = !mayCommand;
    this.button.disabled = driver.state === "stopping";
    this.say(driver.reason ?? driver.devices.join(", "), driver.reason !== null);
    this.lines.textContent = driver.lines.join("\n");
    this.lines.hidden = driver.lines.length === 0;
  }

  say(text, failed = false) {
    this.note.textContent = text;
    this.note.hidden = text === "";
    this.note.classList.toggle("failed", failed);
  }

  async press() {
    this.button.disabled = true;
    try {
      await post(`/drivers/${wordOf(this.name)}/${this.runs ? "stop" : "start"}`, {});
    } catch { /* the list says why */ }
    await look();
  }
}

async function look() {
  clearTimeout(timer);
  try {
    const [site, { drivers }] = await Promise.all([get(""), get("/drivers")]);
    for (const driver of drivers) {
      if (!rows.has(driver.driver)) rows.set(driver.driver, new Row(driver.driver));
      rows.get(driver.driver).update(driver, site.operates === null);
    }
    const wanted = drivers.map((driver) => rows.get(driver.driver).element);
    if (wanted.some((each, index) => at("driver-list").children[index] !== each)) at("driver-list").replaceChildren(...wanted);
  } catch { /* there is no answer, or none for this user; the page says so */ }
  clearTimeout(timer);
  if (at("drivers").open) timer = setTimeout(look, PAUSE);
}

at("drivers").addEventListener("toggle", look);
document.addEventListener("site", (event) => { at("drivers").hidden = !event.detail.drivers; });
