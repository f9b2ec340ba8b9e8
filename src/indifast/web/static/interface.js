// The interface for programs: requests, and the WebSocket.

const BASE = "/api/v1";

export class Failure extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
  }
}

export function pathOf(device, property, member) {
  const words = ["devices", device];
  if (property !== undefined) words.push("properties", property);
  if (member !== undefined) words.push("frames", member);
  return "/" + words.map(encodeURIComponent).join("/");
}

export function addressOf(path) {
  return BASE + path;
}

export async function request(path, options = {}) {
  const response = await fetch(BASE + path, options);
  if (response.ok) return response;
  let error = { code: "fault", message: `the answer has status ${response.status}` };
  try {
    error = (await response.json()).error;
  } catch { /* not from the application */ }
  throw new Failure(response.status, error);
}

export async function get(path) {
  return (await request(path)).json();
}

export async function post(path, content) {
  const headers = { "Content-Type": "application/json" };
  return (await request(path, { method: "POST", headers, body: JSON.stringify(content) })).json();
}

// Calls `told` with each event, and `open` with true or false when the WebSocket opens or closes; opens it again.
export function listen(told, open) {
  let pause = 1000;
  const connect = () => {
    const socket = new WebSocket(location.origin.replace(/^http/, "ws") + BASE + "/events");
    socket.onopen = () => {
      pause = 1000;
      socket.send(JSON.stringify({ subscribe: [{}] }));
      open(true);
    };
    socket.onmessage = (message) => told(JSON.parse(message.data));
    socket.onclose = () => {
      open(false);
      setTimeout(connect, pause);
      pause = Math.min(2 * pause, 10000);
    };
  };
  connect();
}
