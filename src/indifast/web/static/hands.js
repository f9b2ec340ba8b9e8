// Pointers, the wheel and keys move a viewport: one finger pans, two zoom.

const KEYS = {
  "+": (view) => view.zoomAt(1.5), "=": (view) => view.zoomAt(1.5), "-": (view) => view.zoomAt(1 / 1.5), 0: (view) => view.fit(),
  ArrowLeft: (view) => view.pan(60, 0), ArrowRight: (view) => view.pan(-60, 0),
  ArrowUp: (view) => view.pan(0, 60), ArrowDown: (view) => view.pan(0, -60),
};

// `moved` is called whenever the viewport has changed.
export function handle(canvas, viewport, moved) {
  const pointers = new Map();
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const ratio = canvas.width / (box.width || 1);
    return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
  };
  const middle = () => {
    const all = [...pointers.values()];
    const mean = (key) => all.reduce((sum, each) => sum + each[key], 0) / all.length;
    const center = { x: mean("x"), y: mean("y") };
    return { ...center, spread: Math.hypot(all[0].x - center.x, all[0].y - center.y) };
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = middle();
    pointers.set(event.pointerId, at(event));
    const after = middle();
    viewport.pan(after.x - before.x, after.y - before.y);
    if (pointers.size > 1 && before.spread > 0) viewport.zoomAt(after.spread / before.spread, after.x, after.y);
    moved();
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = at(event);
    viewport.zoomAt(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / 300), x, y);
    moved();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.altKey || event.metaKey ? undefined : KEYS[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act(viewport);
    moved();
  });
}
