// Elements from words. Text is always text: nothing that was answered becomes markup.

/** `element("p", {class: "soft"}, "words", child)`; a property that is null is left out. */
export function element(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

export function svg(name, properties = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), properties, children);
}

function fill(made, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export const byId = (id) => document.getElementById(id);
export const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/** Three digits that matter: 0.128, 1.28, 12.8, 128, 1,280. */
export function figure(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en", { maximumFractionDigits: Math.min(3, decimals) });
}
