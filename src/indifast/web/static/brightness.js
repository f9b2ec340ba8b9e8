// Brightness and colors of a frame: its histogram with three marks, which are moved by sliders.

import { element } from "./elements.js";

const STEPS = 1000;
const NAMES = ["Black", "Middle", "White"];
const PATTERNS = { auto: "Colors: as the camera says", off: "Colors: none", RGGB: "RGGB", BGGR: "BGGR", GRBG: "GRBG", GBRG: "GBRG" };

const digits = (value) => (value === null ? "?" : String(Number(value.toPrecision(5))));

export class Brightness {
  // Calls `changed` when something else is wanted: see `stretch` and `bayer`.
  constructor(changed) {
    this.changed = changed;
    this.stretch = null; // null: automatic
    this.now = null;
    this.histogram = element("canvas", { width: 512, height: 72, "aria-hidden": "true" });
    this.sliders = NAMES.map((name, at) => element("input", {
      type: "range", min: 0, max: STEPS, value: 0, "aria-label": name, oninput: (event) => this.move(at, Number(event.target.value)),
    }));
    this.outputs = NAMES.map(() => element("output"));
    this.automatic = element("button", { type: "button", text: "Automatic", "aria-pressed": "true", onclick: () => this.set(null) });
    this.colors = element("select", { "aria-label": "Colors", onchange: () => changed() },
      ...Object.entries(PATTERNS).map(([value, text]) => element("option", { value, text })));
    const rows = NAMES.map((name, at) => element("label", { class: "slider" }, element("span", { text: name }), this.sliders[at], this.outputs[at]));
    this.element = element("details", { open: window.innerWidth > 700, ontoggle: () => this.draw() },
      element("summary", { text: "Brightness and colors" }), this.histogram, ...rows,
      element("div", { class: "buttons" }, this.automatic, this.colors));
  }

  get bayer() {
    return this.colors.value;
  }

  set(stretch) {
    this.stretch = stretch;
    this.automatic.setAttribute("aria-pressed", String(stretch === null));
    this.changed();
  }

  // Values of pixels are on an axis of roots, because most of a dark frame lies at its left end.
  positionOf(value) {
    const { low, high, root } = this.now.histogram;
    return high > low ? Math.max(0, Math.min(1, Math.max(0, (value - low) / (high - low)) ** (1 / root))) : 0;
  }

  valueAt(position) {
    const { low, high, root } = this.now.histogram;
    return low + (high - low) * position ** root;
  }

  move(at, step) {
    if (this.now === null || this.now.histogram.low === null) return;
    const steps = (this.stretch ?? this.now.stretch).map((value) => Math.round(this.positionOf(value) * STEPS));
    steps[at] = Math.max(at, Math.min(STEPS - (2 - at), step));
    for (let lower = at - 1; lower >= 0; lower -= 1) steps[lower] = Math.min(steps[lower], steps[lower + 1] - 1);
    for (let upper = at + 1; upper < 3; upper += 1) steps[upper] = Math.max(steps[upper], steps[upper - 1] + 1);
    const values = steps.map((each) => this.valueAt(each / STEPS));
    if (values[0] < values[2]) this.set(values);
    this.draw();
  }

  // What the server says about the newest picture.
  update(picture) {
    this.now = picture;
    this.draw();
  }

  draw() {
    if (!this.element.open || this.now === null || this.now.histogram.low === null) return;
    const { counts } = this.now.histogram;
    const stretch = this.stretch ?? this.now.stretch;
    const places = stretch.map((value) => this.positionOf(value));
    places.forEach((place, at) => {
      if (document.activeElement !== this.sliders[at] || this.stretch === null) this.sliders[at].value = Math.round(place * STEPS);
      this.outputs[at].textContent = digits(stretch[at]);
    });
    const context = this.histogram.getContext("2d");
    const { width, height } = this.histogram;
    const style = getComputedStyle(this.histogram);
    const most = Math.log1p(Math.max(...counts));
    context.clearRect(0, 0, width, height);
    context.fillStyle = style.color;
    counts.forEach((count, at) => {
      const tall = most ? (height * Math.log1p(count)) / most : 0;
      context.fillRect((at * width) / counts.length, height - tall, width / counts.length, tall);
    });
    context.fillStyle = style.getPropertyValue("--accent");
    for (const place of places) context.fillRect(Math.min(place * width, width - 3), 0, 3, height);
  }
}
