// Properties as cards. All text from devices is set as text, never as HTML.

import { post, pathOf, putBlob } from "./interface.js";
import { element } from "./elements.js";
import { Curves } from "./curves.js";
import { FrameView } from "./frames.js";

// A browser opens six connections to a host. Commands that wait for their answers must leave some for more urgent ones,
// such as an abort: further ones are only sent, and the card shows the state.
const MOST_WAITING = 3;
let waiting = 0;

const FORMAT = /(\.\w+)?\.(z|fz|gz)$|\.\w+$/i;

// What must be the same for a card to be updated in place.
function shapeOf(property) {
  const members = Object.entries(property.members).map(([name, each]) => [name, each.label, each.secret, each.min, each.max]);
  return JSON.stringify([property.type, property.label, property.perm, property.rule, members]);
}

export class Card {
  constructor(property, mayCommand) {
    this.mayCommand = mayCommand;
    this.element = element("form", { class: "card", autocomplete: "off" });
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.sendInputs();
    });
    this.update(property);
  }

  update(property) {
    this.property = property;
    const shape = shapeOf(property);
    if (shape !== this.shape) {
      this.shape = shape;
      this.close();
      this.build();
    }
    this.showState((this.answer?.received > property.received ? this.answer : property).state);
    for (const [name, member] of Object.entries(property.members)) {
      this.rows.get(name)(member);
      this.curves?.add(name, member.value);
    }
  }

  showState(state) {
    this.state.textContent = state;
    this.state.className = `state ${state}`;
  }

  close() {
    for (const view of this.views ?? []) view.close();
    this.views = [];
    this.curves?.close();
    this.curves = null;
  }

  build() {
    const { property } = this;
    this.rows = new Map();
    this.inputs = new Map();
    this.state = element("span");
    this.note = element("p", { class: "note", role: "status", hidden: true });
    const title = element("h3", { text: property.label || property.property, title: property.property });
    const parts = [element("div", { class: "top" }, title, this.state)];
    const writable = this.mayCommand && property.perm !== "ro";
    const build = { number: this.number, text: this.text, switch: this.switch, light: this.light, blob: this.blob }[property.type];
    const buttons = element("div", { class: "buttons", role: "group", "aria-label": property.label });
    for (const [name, member] of Object.entries(property.members)) {
      const row = build.call(this, name, member, writable);
      (property.type === "switch" ? buttons : { append: (row) => parts.push(row) }).append(row);
    }
    if (property.type === "switch") parts.push(buttons);
    const more = [];
    if (this.inputs.size) more.push(element("button", { text: "Set" }));
    if (property.type === "number" && property.perm !== "wo") more.push(this.curvesButton());
    if (more.length) parts.push(element("div", { class: "buttons" }, ...more));
    this.element.replaceChildren(...parts, this.note);
  }

  // -- One function for each kind of member: returns its row, and stores how to update it

  number(name, member, writable) {
    const value = element("output", { class: "value" });
    const row = element("div", { class: "row" }, element("span", { class: "label", text: member.label || name }), value);
    const range = member.min !== null && member.max > member.min ? `${member.min} … ${member.max}` : "";
    if (writable) row.append(this.input(name, member, { inputmode: "text", title: range, placeholder: range }));
    this.rows.set(name, (now) => { value.textContent = now.secret ? "not shown" : now.shown; });
    return row;
  }

  text(name, member, writable) {
    const value = element("output", { class: "value" });
    const row = element("div", { class: "row" }, element("span", { class: "label", text: member.label || name }), value);
    if (writable) row.append(this.input(name, member, { placeholder: "new text" }));
    this.rows.set(name, (now) => { value.textContent = now.secret ? "not shown" : now.value; });
    return row;
  }

  input(name, member, attributes) {
    const hidden = member.secret ? { type: "password", autocomplete: "new-password" } : { type: "text" };
    const input = element("input", { ...attributes, ...hidden, "aria-label": `${member.label || name}: new value`, spellcheck: "false" });
    input.addEventListener("input", () => input.classList.toggle("changed", input.value !== ""));
    this.inputs.set(name, input);
    return input;
  }

  switch(name, member, writable) {
    const button = element("button", { type: "button", text: member.label || name, disabled: !writable });
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "true";
      this.send({ [name]: this.property.rule === "OneOfMany" ? true : !on });
    });
    this.rows.set(name, (now) => button.setAttribute("aria-pressed", String(now.value === true)));
    return button;
  }

  curvesButton() {
    const button = element("button", { type: "button", text: "Curves", "aria-pressed": "false" });
    button.addEventListener("click", () => {
      const { device, property, members } = this.property;
      if (this.curves === null) {
        this.curves = new Curves(device, property, members);
        this.note.before(this.curves.element);
      } else {
        this.curves.close();
        this.curves = null;
      }
      button.setAttribute("aria-pressed", String(this.curves !== null));
    });
    return button;
  }

  light(name, member) {
    const value = element("output", { class: "value" });
    this.rows.set(name, (now) => {
      value.textContent = now.value;
      value.className = `value lamp ${now.value}`;
    });
    return element("div", { class: "row" }, element("span", { class: "label", text: member.label || name }), value);
  }

  blob(name, member, writable) {
    const { device, property, perm } = this.property;
    const label = member.label || name;
    const row = element("div", {});
    if (perm !== "wo") {
      const view = new FrameView(device, property, name, label);
      this.views.push(view);
      row.append(view.element);
    }
    if (writable) row.append(...this.file(name, label));
    else if (perm === "wo") row.append(element("p", { class: "note", text: `${label}: only for sending` }));
    this.rows.set(name, () => {});
    return row;
  }

  file(name, label) {
    const input = element("input", { type: "file", "aria-label": `${label}: file` });
    const button = element("button", { type: "button", text: `Send ${label}`, onclick: () => this.sendFile(name, input) });
    return [element("div", { class: "row" }, input), element("div", { class: "buttons" }, button)];
  }

  // -- Commands

  async sendInputs() {
    const changed = [...this.inputs].filter(([, input]) => input.value !== "");
    if (!changed.length) return;
    if (await this.send(Object.fromEntries(changed.map(([name, input]) => [name, input.value])))) {
      for (const [, input] of changed) {
        input.value = "";
        input.classList.remove("changed");
      }
    }
  }

  send(members) {
    const { device, property } = this.property;
    return this.command((wait) => post(pathOf(device, property), { members, wait, timeout: 600 }));
  }

  async sendFile(name, input) {
    const [file] = input.files;
    // Two suffixes if the last one says how it is packed.
    const [format] = FORMAT.exec(file?.name ?? "") ?? [];
    if (format === undefined) {
      this.say(file === undefined ? "choose a file" : "the name of the file must say what it is, as .fits does", true);
      return;
    }
    const { device, property } = this.property;
    if (await this.command((wait) => putBlob(device, property, name, file, format, wait))) input.value = "";
  }

  // Asks for something that is answered late, unless too much of that is waited for already.
  async command(ask) {
    this.say("sent …");
    const wait = waiting < MOST_WAITING;
    waiting += wait;
    try {
      const answer = await ask(wait);
      this.answered(answer.property);
      this.say(answer.message ?? "");
      return true;
    } catch (failure) {
      this.answered(failure.property);
      this.say(failure.message, true);
      return false;
    } finally {
      waiting -= wait;
    }
  }

  // Answers and news come by different connections: what a driver says must not stand beside an outdated state.
  answered(property) {
    if (!(property?.received >= this.property.received)) return;
    this.answer = property;
    this.showState(property.state);
  }

  say(text, failed = false) {
    this.note.textContent = text;
    this.note.hidden = text === "";
    this.note.classList.toggle("failed", failed);
  }
}
