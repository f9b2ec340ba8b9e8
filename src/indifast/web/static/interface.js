// The interface for programs: requests, and the WebSocket.

const BASE = "/api/v1";

export class Failure extends Error {
  // `property` is what a command has made of its property, if the answer says that.
  constructor(status, error, property) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.property = property;
  }
}

const STEPS = /^%(25)*2E(%(25)*2E)?$/i;

// A name as a word of a path. Browsers take `.` and `..` for steps, even if they are percent-encoded.
export function wordOf(name) {
  if (name === "." || name === "..") return name.replaceAll(".", "%252E");
  return encodeURIComponent(STEPS.test(name) ? encodeURIComponent(name) : name);
}

export function pathOf(device, property, member) {
  const words = ["devices", wordOf(device)];
  if (property !== undefined) words.push("properties", wordOf(property));
  if (member !== undefined) words.push("frames", wordOf(member));
  return `/${words.join("/")}`;
}

export function addressOf(path) {
  return BASE + path;
}

export async function request(path, options = {}) {
  const response = await fetch(BASE + path, options);
  if (response.ok) return response;
  let said = { error: { code: "fault", message: `the answer has status ${response.status}` } };
  try {
    const answer = await response.json();
    if (answer.error) said = answer;
  } catch { /* not from the application */ }
  if (response.status === 401) document.dispatchEvent(new Event("token"));
  throw new Failure(response.status, said.error, said.property);
}

export async function get(path) {
  return (await request(path)).json();
}

export async function post(path, content) {
  const headers = { "Content-Type": "application/json" };
  return (await request(path, { method: "POST", headers, body: JSON.stringify(content) })).json();
}

export async function putBlob(device, property, member, file, format, wait) {
  const path = `${pathOf(device, property)}/blobs/${wordOf(member)}?${new URLSearchParams({ format, wait, timeout: 600 })}`;
  const headers = { "Content-Type": "application/octet-stream" };
  return (await request(path, { method: "PUT", headers, body: file })).json();
}

// Opens the WebSocket. Calls `told` with each event, and `closed` when it ends, unless what is returned has closed it.
export function listen(told, closed) {
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + BASE + "/events");
  socket.onopen = () => socket.send(JSON.stringify({ subscribe: [{}] }));
  socket.onmessage = (message) => told(JSON.parse(message.data));
  socket.onclose = closed;
  return () => {
    socket.onmessage = socket.onclose = null;
    socket.close();
  };
}
