// Moving pictures: lines that wander to the left, and bars that grow.

import { element, figure, stillness, svg } from "./elements.js";

const POINTS = 60;
const HEIGHT = 84;
const TOP = 8;

/** A card with a line for each of `keys`: [{name, kind}], where `kind` is a class that says its colour. */
export class Lines {
  constructor(title, keys, { unit = "", least = 0 } = {}) {
    this.keys = keys;
    this.unit = unit;
    this.least = least; // the scale never shows less than this, so that noise does not look like a mountain
    this.history = [];
    this.figures = element("p", { class: "figures" });
    this.moving = svg("g");
    this.picture = svg("svg", { viewBox: `0 0 ${POINTS - 2} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      svg("line", { x1: 0, x2: POINTS, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }), this.moving);
    this.title = title;
    this.card = element("div", { class: "card chart" }, element("h3", {}, title), this.figures, this.picture);
  }

  /** `values` in the order of the keys; null where there is none. */
  push(values, beside = "") {
    this.history.push(values);
    if (this.history.length > POINTS) this.history.shift();
    this.#words(values, beside);
    this.#draw();
  }

  #words(values, beside) {
    const said = this.keys.map(({ name, kind }, n) => element("span", {},
      element("b", {}, figure(values[n])), ` ${this.unit}`.trimEnd(), " ", element("span", { class: `key ${kind}` }, name)));
    this.figures.replaceChildren(...said, ...(beside ? [element("span", {}, beside)] : []));
    this.picture.setAttribute("aria-label", `${this.title}: ${this.figures.textContent}`);
  }

  #draw() {
    const most = Math.max(this.least, ...this.history.flat().filter((value) => value !== null));
    const place = (value) => HEIGHT - 1 - (HEIGHT - 1 - TOP) * value / most;
    this.moving.replaceChildren(...this.keys.flatMap(({ kind }, key) => {
      const points = this.history
        .map((values, n) => [POINTS - this.history.length + n, values[key]])
        .filter(([, value]) => value !== null)
        .map(([x, value]) => `${x} ${place(value).toFixed(1)}`);
      if (points.length < 2) return [];
      const line = `M${points.join("L")}`, [first, last] = [points[0], points.at(-1)].map((point) => point.split(" ")[0]);
      const area = kind.includes("faint") ? [] : [svg("path", { class: `area ${kind}`, d: `${line}V${HEIGHT}H${first}Z` })];
      return [...area, svg("path", { class: kind, d: line, "data-last": last })];
    }));
    this.#move();
  }

  #move() {
    if (stillness.matches) return this.moving.setAttribute("transform", "translate(-1 0)");
    this.moving.animate([{ transform: "none" }, { transform: "translateX(-1px)" }], { duration: 1000, fill: "forwards" });
  }
}

/** A card with a bar for each bucket, one part of it for each of `variants`. */
export class Bars {
  constructor(title, variants) {
    this.variants = variants;
    this.figures = element("p", { class: "figures" });
    this.bars = element("div", { class: "bars", role: "img" });
    this.title = title;
    this.card = element("div", { class: "card chart" }, element("h3", {}, title), this.figures, this.bars);
  }

  /** `names` of the buckets, and for each variant the count in each. */
  show(names, counts, words) {
    if (this.bars.childElementCount !== names.length) this.#build(names);
    const most = Math.max(1, ...names.map((_, n) => counts.reduce((sum, each) => sum + each[n], 0)));
    names.forEach((_, n) => counts.forEach((each, variant) => {
      this.bars.children[n].children[variant].style.height = `${65 * each[n] / most}px`;
    }));
    this.figures.replaceChildren(element("b", {}, words[0]), element("span", {}, words[1]));
    this.bars.setAttribute("aria-label", `${this.title}: ${words.join(" ")}`);
  }

  #build(names) {
    this.bars.replaceChildren(...names.map((name) => element("div", {},
      ...this.variants.map((variant) => element("i", { class: variant })), element("small", {}, name))));
  }
}
