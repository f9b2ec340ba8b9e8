// What is known of devices: a Map of names to Maps of their properties.

// Takes in an event about a property. Returns whether there are other devices, properties or groups than before.
export function store(devices, event) {
  if (event.event === "delete") {
    const properties = devices.get(event.device);
    properties?.delete(event.property);
    if (!properties?.size) devices.delete(event.device);
    return true;
  }
  const isNew = !devices.has(event.device);
  if (isNew) devices.set(event.device, new Map());
  const properties = devices.get(event.device);
  const before = properties.get(event.property);
  properties.set(event.property, event.content);
  return isNew || before?.group !== event.content.group;
}
