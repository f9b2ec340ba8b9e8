// The newest frame of a BLOB. The next one is asked for when this one is on the screen: slow viewers see fewer frames.

import { addressOf, get, pathOf, request } from "./interface.js";
import { element } from "./elements.js";

const WAIT = 25; // seconds

// Requests that wait for frames take few of the six connections that a browser opens to a host.
const MOST_WAITING = 2;
let running = 0;
let waiting = 0;
const next = []; // views whose turn comes

async function inTurn(work) {
  if (waiting < MOST_WAITING) waiting += 1;
  else await new Promise((resolve) => next.push(resolve));
  try {
    return await work();
  } finally {
    if (next.length) next.shift()();
    else waiting -= 1;
  }
}

export class FrameView {
  constructor(device, property, member, label) {
    this.path = pathOf(device, property, member);
    this.running = false;
    this.image = element("img", { alt: `newest frame: ${label}`, hidden: true });
    this.histogram = element("canvas", { width: 256, height: 48, hidden: true, "aria-hidden": "true" });
    this.note = element("p", { class: "note", role: "status", hidden: true });
    this.button = element("button", { type: "button", text: `Show ${label}`, "aria-pressed": "false", onclick: () => this.toggle() });
    const save = element("a", { class: "button", href: addressOf(this.path), download: true, text: "Save" });
    this.element = element("div", { class: "frame" }, element("div", { class: "buttons" }, this.button, save),
      this.image, this.histogram, this.note);
  }

  toggle() {
    this.running = !this.running;
    this.button.setAttribute("aria-pressed", String(this.running));
    if (this.running) this.run();
    else this.stopping?.abort();
  }

  close() {
    this.running = false;
    this.stopping?.abort();
    this.show(null);
  }

  async run() {
    running += 1;
    try {
      await this.follow();
    } finally {
      running -= 1;
    }
  }

  async follow() {
    this.stopping = new AbortController();
    const { signal } = this.stopping;
    let number = 0;
    this.say("waiting for a frame …");
    while (!signal.aborted) {
      try {
        const size = Math.ceil((this.element.clientWidth || 320) * Math.min(window.devicePixelRatio, 2));
        const response = await inTurn(() => {
          const wait = running > MOST_WAITING ? 1 : WAIT;
          return request(`${this.path}/preview?after=${number}&wait=${wait}&size=${size}`, { signal });
        });
        if (response.status === 204) continue;
        number = Number(response.headers.get("Indifast-Frame"));
        await this.show(await response.blob());
        await this.measure();
      } catch (failure) {
        if (signal.aborted) return;
        this.say(failure.message, true);
        await new Promise((resolve) => setTimeout(resolve, 2000));
      }
    }
  }

  async show(blob) {
    const old = this.image.src;
    this.image.hidden = blob === null;
    if (blob === null) this.image.removeAttribute("src");
    else {
      this.image.src = URL.createObjectURL(blob);
      await this.image.decode();
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
    if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  }

  async measure() {
    const response = await get(`${this.path}/info`);
    const { frame, shape, statistics, histogram, problem } = response;
    const size = shape === null ? "" : `${shape[1]} × ${shape[0]}, `;
    const digits = (value) => (value === null ? "?" : Number(value.toPrecision(5)));
    const values = statistics === null ? problem ?? ""
      : `min ${digits(statistics.min)}, median ${digits(statistics.median)}, max ${digits(statistics.max)}`;
    this.say(`frame ${frame.number}: ${size}${frame.format} ${(frame.size / 1e6).toFixed(1)} MB, ${values}`);
    this.draw(histogram);
  }

  draw(histogram) {
    this.histogram.hidden = histogram === null;
    if (histogram === null) return;
    const context = this.histogram.getContext("2d");
    const { width, height } = this.histogram;
    const most = Math.log1p(Math.max(...histogram.counts));
    context.clearRect(0, 0, width, height);
    context.fillStyle = getComputedStyle(this.histogram).color;
    histogram.counts.forEach((count, at) => {
      const tall = most ? (height * Math.log1p(count)) / most : 0;
      context.fillRect((at * width) / histogram.counts.length, height - tall, width / histogram.counts.length, tall);
    });
  }

  say(text, failed = false) {
    this.note.textContent = text;
    this.note.hidden = text === "";
    this.note.classList.toggle("failed", failed);
  }
}
