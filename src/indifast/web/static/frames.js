// The live picture of a BLOB: the newest frame, which can be zoomed, panned and brightened.

import { addressOf, pathOf } from "./interface.js";
import { element } from "./elements.js";
import { Brightness } from "./brightness.js";
import { handle } from "./hands.js";
import { LiveFrames } from "./live.js";
import { Viewport } from "./viewport.js";

const SHOWN = 2000; // milliseconds over which the rate is measured
const TALLEST = 0.75; // of the window

export class FrameView {
  constructor(device, property, member, label) {
    this.path = pathOf(device, property, member);
    this.live = null;
    this.viewport = new Viewport();
    this.brightness = new Brightness(() => this.look());
    this.canvas = element("canvas", { class: "picture", tabindex: 0, role: "img", "aria-label": `newest frame: ${label}` });
    this.note = element("p", { class: "note", role: "status", hidden: true });
    this.facts = element("p", { class: "note facts" });
    this.button = element("button", { type: "button", text: `Show ${label}`, "aria-pressed": "false", onclick: () => this.toggle() });
    const save = element("a", { class: "button", href: addressOf(this.path), download: true, text: "Save" });
    this.panel = element("div", { class: "panel", hidden: true }, this.canvas, this.tools(), this.facts, this.brightness.element);
    this.element = element("div", { class: "frame" }, element("div", { class: "buttons" }, this.button, save), this.panel, this.note);
    handle(this.canvas, this.viewport, () => this.moved());
  }

  tools() {
    const tool = (text, title, act) => element("button", { type: "button", text, title, "aria-label": title, onclick: () => { act(); this.moved(); } });
    const { viewport } = this;
    return element("div", { class: "buttons" },
      tool("−", "Zoom out", () => viewport.zoomAt(1 / 1.5)), tool("+", "Zoom in", () => viewport.zoomAt(1.5)),
      tool("Fit", "The whole frame", () => viewport.fit()),
      tool("1:1", "Pixel by pixel", () => viewport.zoomAt(this.ratio / viewport.scale)),
      tool("Full screen", "Full screen", () => this.fullScreen()));
  }

  get ratio() {
    return Math.min(window.devicePixelRatio || 1, 2);
  }

  toggle() {
    if (this.live === null) this.start();
    else this.close();
  }

  start() {
    this.times = [];
    this.last = null;
    this.live = new LiveFrames(this.path, (...drawn) => this.took(...drawn), (text) => this.say(text, true));
    this.resized = new ResizeObserver(() => this.fitCanvas());
    this.resized.observe(this.panel);
    this.telling = setInterval(() => this.tell(), 500);
    this.say("waiting for a frame …");
    this.show(true);
  }

  close() {
    this.live?.close();
    this.live = null;
    clearInterval(this.telling);
    this.resized?.disconnect();
    this.last?.picture.close();
    this.last = null;
    this.say("");
    this.show(false);
  }

  show(running) {
    this.button.setAttribute("aria-pressed", String(running));
    this.panel.hidden = !running || this.last === null;
    this.element.closest(".card")?.classList.toggle("wide", running);
  }

  // -- What has arrived

  took(about, picture, arrived) {
    this.last?.picture.close();
    const first = this.last === null;
    if (about.frame.number !== this.last?.about.frame.number) this.times.push(arrived);
    this.last = { about, picture, arrived };
    while (this.times[0] < arrived - SHOWN) this.times.shift();
    const { width, height } = about.picture;
    const { frame } = this.viewport;
    if (frame.width !== width || frame.height !== height) {
      this.viewport.frame = { width, height };
      this.viewport.fit();
    }
    if (first) {
      this.say("");
      this.show(true);
    } else if (this.note.textContent) this.say("");
    this.fitCanvas();
    this.brightness.update(about.picture);
    this.draw();
    if (first) this.tell();
  }

  tell() {
    if (this.last === null) return;
    const { about, arrived } = this.last;
    const { width, height, pixels, bayer } = about.picture;
    const now = performance.now();
    const times = this.times.filter((each) => each >= now - SHOWN);
    const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times[times.length - 1] - times[0]) : 0;
    const age = about.age + (now - arrived) / 1000;
    this.facts.textContent = [
      `${width} × ${height}, ${pixels}${bayer === null ? "" : `, ${bayer}`}`,
      `frame ${about.frame.number}, ${(about.frame.size / 1e6).toFixed(1)} MB ${about.frame.format}`,
      rate ? `${rate.toFixed(1)} of ${about.rate.toFixed(1)} frames/s` : "",
      `age ${age < 10 ? age.toFixed(1) : Math.round(age)} s`,
      `${Math.round((100 * this.viewport.scale) / this.ratio)} %`,
    ].filter(Boolean).join(" · ");
  }

  // -- What is drawn

  fitCanvas() {
    if (this.last === null) return;
    const full = document.fullscreenElement === this.panel;
    const { frame } = this.viewport;
    const wide = this.panel.clientWidth || 320;
    const tall = Math.min((wide * frame.height) / frame.width, (full ? 0.8 : TALLEST) * window.innerHeight);
    const [width, height] = [Math.round(wide * this.ratio), Math.max(1, Math.round(tall * this.ratio))];
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.canvas.style.height = `${tall}px`;
    this.viewport.canvas = { width, height };
    this.moved();
  }

  moved() {
    this.viewport.pan(0, 0);
    this.canvas.classList.toggle("zoomed", this.viewport.zoom !== null);
    if (this.moving) return;
    this.moving = true;
    requestAnimationFrame(() => {
      this.moving = false;
      this.draw();
      this.look();
    });
  }

  // Has the server show what is on the canvas. When nothing is zoomed, all viewers of the same size share one picture.
  look() {
    const { region, canvas, scale, frame } = this.viewport;
    const longer = region === null ? Math.max(frame.width, frame.height) : Math.max(region[2], region[3]);
    const size = Math.ceil(Math.min(longer * scale, Math.max(canvas.width, canvas.height)));
    this.live?.look({ size, region, stretch: this.brightness.stretch, bayer: this.brightness.bayer });
  }

  draw() {
    if (this.last === null) return;
    const { picture, about } = this.last;
    const context = this.canvas.getContext("2d");
    const place = this.viewport.place(about.picture.region);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingEnabled = place[2] < 2 * picture.width;
    context.drawImage(picture, ...place);
  }

  fullScreen() {
    if (document.fullscreenElement !== null) document.exitFullscreen();
    else this.panel.requestFullscreen?.();
  }

  say(text, failed = false) {
    this.note.textContent = text;
    this.note.hidden = text === "";
    this.note.classList.toggle("failed", failed);
  }
}
