// Curves of the numbers of a property over the last hours. The server has recorded them; what comes later is added here.
// While nothing is known of a number, its value is null, and its curve has a gap.

import { get, pathOf } from "./interface.js";
import { element } from "./elements.js";

const SPANS = { "10 min": 600, "1 h": 3600, "6 h": 21600 }; // seconds
const ANEW = 30; // seconds after which they are asked for again
const HEIGHT = 72;

const digits = (value) => String(Number(value.toPrecision(5)));

export class Curves {
  constructor(device, property, members) {
    this.path = `${pathOf(device, property)}/curves`;
    this.span = SPANS["1 h"];
    this.drawn = new Map();
    this.known = {};
    const figures = Object.entries(members).filter(([, member]) => !member.secret).map(([name, member]) => {
      const canvas = element("canvas", { role: "img", "aria-label": `curve of ${member.label || name}` });
      const range = element("output");
      this.drawn.set(name, { canvas, range });
      return element("figure", {}, element("figcaption", {}, element("span", { text: member.label || name }), range), canvas);
    });
    this.spans = Object.entries(SPANS).map(([text, seconds]) => element("button", {
      type: "button", text, "aria-pressed": String(seconds === this.span), onclick: () => this.choose(seconds),
    }));
    this.note = element("p", { class: "note", role: "status", hidden: true });
    this.element = element("div", { class: "curves" }, ...figures, element("div", { class: "buttons" }, ...this.spans), this.note);
    this.ticking = setInterval(() => this.tick(), 1000);
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.element);
    this.fetch();
  }

  close() {
    clearInterval(this.ticking);
    this.resized.disconnect();
    this.element.remove();
  }

  choose(seconds) {
    this.span = seconds;
    this.spans.forEach((button, at) => button.setAttribute("aria-pressed", String(Object.values(SPANS)[at] === seconds)));
    this.fetch();
  }

  async fetch() {
    this.asked = performance.now();
    try {
      const { now, members } = await get(`${this.path}?seconds=${this.span}`);
      this.behind = now - performance.now() / 1000;
      this.known = Object.fromEntries(Object.entries(members).map(([name, curve]) => [name, curve.parts]));
      this.say("");
      this.draw();
    } catch (failure) {
      this.say(failure.message);
    }
  }

  get now() {
    return performance.now() / 1000 + this.behind;
  }

  tick() {
    if (performance.now() - this.asked > 1000 * ANEW) this.fetch();
    else this.draw();
  }

  // A value that has just arrived.
  add(name, value) {
    if (this.behind === undefined) return;
    this.known[name] ??= [];
    const parts = this.known[name];
    const last = parts[parts.length - 1] ?? [-Infinity, null, null, null];
    if (last[3] === value) return;
    if (this.now - last[0] < 1) {
      const values = [last[1], last[2], value].filter((each) => each !== null);
      last.splice(1, 3, Math.min(...values), Math.max(...values), value);
    } else parts.push([this.now, value, value, value]);
  }

  // Nothing is known from now on.
  interrupt() {
    for (const name of this.drawn.keys()) this.add(name, null);
  }

  draw() {
    if (this.behind === undefined) return;
    for (const [name, { canvas, range }] of this.drawn) {
      const begin = this.now - this.span;
      const parts = this.known[name] ?? [];
      const first = Math.max(0, parts.findLastIndex((part) => part[0] <= begin));
      this.drawOne(canvas, range, parts.slice(first), begin);
    }
  }

  drawOne(canvas, range, parts, begin) {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.round((canvas.clientWidth || 300) * ratio);
    const height = HEIGHT * ratio;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    range.textContent = "";
    const values = parts.flatMap((part) => [part[1], part[2]]).filter((each) => each !== null);
    if (!values.length) return;
    const low = Math.min(...values);
    const high = Math.max(...values);
    range.textContent = low === high ? digits(low) : `${digits(low)} … ${digits(high)}`;
    const x = (time) => Math.max(0, ((time - begin) / this.span) * width);
    const y = (value) => (high === low ? height / 2 : height - 3 - ((value - low) / (high - low)) * (height - 6));
    const color = getComputedStyle(canvas).getPropertyValue("--accent");
    context.strokeStyle = context.fillStyle = color;
    context.lineWidth = 1.5 * ratio;
    context.beginPath();
    let before = null;
    for (const [time, lowest, highest, last] of parts) {
      if (before !== null) context.lineTo(x(time), y(before));
      if (lowest !== null) context.fillRect(x(time), y(highest), Math.max(1, ratio), Math.max(1, y(lowest) - y(highest)));
      if (last !== null && before !== null) context.lineTo(x(time), y(last));
      else if (last !== null) context.moveTo(x(time), y(last));
      before = last;
    }
    if (before !== null) context.lineTo(width, y(before));
    context.stroke();
  }

  say(text) {
    this.note.textContent = text;
    this.note.hidden = text === "";
  }
}
