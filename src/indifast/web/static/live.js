// The WebSocket with live frames. One frame is on its way while another is drawn; further ones are asked for only then.

import { addressOf } from "./interface.js";

const AHEAD = 2;
const TYPES = ["image/jpeg", "image/webp"];

export class LiveFrames {
  // Calls `draw` with what the server says about a frame, and its picture; `say` with what has failed.
  constructor(path, draw, say) {
    this.path = path;
    this.draw = draw;
    this.say = say;
    this.view = { types: TYPES };
    this.open();
  }

  open() {
    const socket = new WebSocket(location.origin.replace(/^http/, "ws") + addressOf(this.path) + "/live");
    let drawing = Promise.resolve();
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.send({ view: this.view, more: AHEAD });
    socket.onmessage = ({ data }) => {
      const arrived = performance.now();
      if (typeof data === "string") {
        this.say(JSON.parse(data).error.message);
        this.send({ more: 1 });
      } else {
        drawing = drawing.then(() => this.take(data, arrived, socket));
      }
    };
    socket.onclose = () => {
      this.say("no frames; trying again");
      this.again = setTimeout(() => this.open(), 2000);
    };
  }

  async take(data, arrived, socket) {
    const length = new DataView(data).getUint32(0);
    const about = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    try {
      const picture = await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)], { type: about.picture.type }));
      await new Promise((resolve) => requestAnimationFrame(resolve));
      if (socket !== this.socket) picture.close();
      else this.draw(about, picture, arrived);
    } catch {
      this.say("this browser cannot show the picture");
    }
    if (socket === this.socket) this.send({ more: 1 });
  }

  // Says how the next frames are to be shown; the last one is sent again in this way.
  look(view) {
    const wanted = { types: TYPES, ...view };
    if (JSON.stringify(wanted) === JSON.stringify(this.view)) return;
    this.view = wanted;
    this.send({ view: wanted });
  }

  send(content) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(content));
  }

  close() {
    clearTimeout(this.again);
    const { socket } = this;
    this.socket = null;
    socket.onmessage = socket.onclose = null;
    socket.close();
  }
}
