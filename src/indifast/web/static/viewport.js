// Which part of a frame is on a canvas. Lengths on the canvas are in its own pixels, not in those of the page.

const CLOSEST = 32; // pixels of the canvas for one of the frame

export class Viewport {
  constructor() {
    this.frame = { width: 1, height: 1 };
    this.canvas = { width: 1, height: 1 };
    this.zoom = null; // null: all of the frame
    this.center = { x: 0.5, y: 0.5 };
  }

  get fitting() {
    return Math.min(this.canvas.width / this.frame.width, this.canvas.height / this.frame.height);
  }

  get scale() {
    return Math.max(this.zoom ?? 0, this.fitting);
  }

  // Where pixel (0, 0) of the frame is on the canvas.
  get origin() {
    const at = (side, length) => this.canvas[side] / 2 - this.center[length] * this.frame[side] * this.scale;
    return { x: at("width", "x"), y: at("height", "y") };
  }

  // The part of the frame that can be seen: left, top, width, height. Null: all of it.
  get region() {
    if (this.zoom === null) return null;
    const { origin, scale } = this;
    const left = Math.max(0, Math.floor(-origin.x / scale));
    const top = Math.max(0, Math.floor(-origin.y / scale));
    const right = Math.min(this.frame.width, Math.ceil((this.canvas.width - origin.x) / scale));
    const bottom = Math.min(this.frame.height, Math.ceil((this.canvas.height - origin.y) / scale));
    return [left, top, Math.max(1, right - left), Math.max(1, bottom - top)];
  }

  // Where a part of the frame is on the canvas.
  place([left, top, width, height]) {
    const { origin, scale } = this;
    return [origin.x + left * scale, origin.y + top * scale, width * scale, height * scale];
  }

  // Zooms so that the same pixel of the frame stays at this point of the canvas.
  zoomAt(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const before = this.origin;
    const from = this.scale;
    const scale = Math.min(Math.max(from * factor, this.fitting), Math.max(CLOSEST, this.fitting));
    this.zoom = scale > this.fitting ? scale : null;
    const moved = { x: x - ((x - before.x) / from) * scale, y: y - ((y - before.y) / from) * scale };
    this.pan(moved.x - this.origin.x, moved.y - this.origin.y);
  }

  pan(x, y) {
    const move = (center, shift, side) => {
      const half = this.canvas[side] / 2 / this.scale / this.frame[side];
      return half >= 0.5 ? 0.5 : Math.min(Math.max(center - shift / this.scale / this.frame[side], half), 1 - half);
    };
    this.center = { x: move(this.center.x, x, "width"), y: move(this.center.y, y, "height") };
  }

  fit() {
    this.zoom = null;
    this.center = { x: 0.5, y: 0.5 };
  }
}
