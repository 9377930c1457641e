// One request, ranked by both models side by side.

import { byId, element, figure, stillness } from "./elements.js";

const PAUSE_MS = 250;

export class Playground {
  constructor(models, experiment, example) {
    this.known = example.known;
    this.models = models;
    this.forced = experiment.running && experiment.forcing_allowed;
    this.learns = models.some(({ features }) => features.some(({ role }) => role === "derived"));
    this.context = contextFields(models);
    this.#build(example.request);
    const form = byId("form");
    form.elements.rank.disabled = false;
    form.addEventListener("submit", (event) => { event.preventDefault(); this.rank(); });
    form.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.rank(), PAUSE_MS);
    });
    this.answers = (this.forced ? ["control", "treatment"] : [null]).map((variant) => new Answer(variant, this.known, this.learns ? (id) => this.#click(id) : null));
    byId("answers").replaceChildren(...this.answers.map((answer) => answer.card), ...this.#note(experiment));
  }

  /** What the form says, as a body of /v1/rank. Throws a SyntaxError of a candidate that is no JSON. */
  request() {
    const context = {};
    for (const feature of this.context) {
      const value = read(feature, byId(`context-${feature.name}`).value);
      if (value !== null) context[feature.name] = value;
    }
    const lines = byId("candidates").value.split("\n").map((line) => line.trim()).filter(Boolean);
    const candidates = lines.map((line) => line.startsWith("{") ? JSON.parse(line) : line);
    return this.context.length ? { context, candidates } : { candidates };
  }

  async rank() {
    let request;
    try {
      request = this.request();
    } catch (error) {
      byId("outcome").textContent = `A candidate is not JSON: ${error.message}`;
      return;
    }
    const turn = this.turn = (this.turn || 0) + 1;
    const rankings = await Promise.all(this.answers.map((answer) => answer.ask(request, byId("visitor").value)));
    if (turn !== this.turn) return; // a later one is on its way
    const orders = rankings.map((ranking, n) => this.answers[n].show(ranking, rankings[0]));
    byId("outcome").textContent = outcome(orders);
  }

  /** The visitor clicks an activity, and the very next ranking knows it. */
  async #click(id) {
    const event = { visitor_id: byId("visitor").value, activity_id: id, type: "click" };
    const answer = await fetch("v1/events", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(event) });
    const receipt = await answer.json();
    await this.rank();
    const kept = receipt.kept ? `${event.visitor_id} clicked ${id}` : receipt.detail || `No model knows ${id}, so the click does not count`;
    byId("outcome").textContent = `${kept}. ${byId("outcome").textContent}`;
    document.querySelector(`.place[data-id="${CSS.escape(id)}"] button`)?.focus();
  }

  async #forget() {
    await fetch(`v1/visitors/${encodeURIComponent(byId("visitor").value)}`, { method: "DELETE" });
    this.rank();
  }

  #visitor() {
    const input = element("input", { id: "visitor", value: "ada", autocomplete: "off", spellcheck: "false" });
    const label = element("label", { for: "visitor" }, "Visitor");
    if (!this.learns) return element("div", { class: "field wide" }, label, input);
    const forget = element("button", { type: "button" }, "Forget");
    forget.addEventListener("click", () => this.#forget());
    input.setAttribute("aria-describedby", "visitor-hint");
    return element("div", { class: "field wide" }, label, element("div", { class: "beside" }, input, forget),
      element("p", { class: "hint", id: "visitor-hint" }, "Click an activity as this visitor: the next ranking knows it."));
  }

  #build(request) {
    byId("fields").replaceChildren(this.#visitor(), ...this.context.map((feature) => field(feature, request.context?.[feature.name])));
    byId("candidates").value = request.candidates
      .map((candidate) => typeof candidate === "string" ? candidate : JSON.stringify(candidate)).join("\n");
  }

  #note(experiment) {
    if (this.forced) return [];
    const words = experiment.running
      ? "This is what the visitor gets. To see both models side by side, let requests ask for a variant: FRONTROW_ALLOW_FORCED_VARIANT=true."
      : "No experiment is running, so there is one model to ask.";
    return [element("p", { class: "note" }, words)];
  }
}

class Answer {
  constructor(variant, known, click) {
    this.variant = variant;
    this.known = known;
    this.click = click;
    this.places = new Map();
    this.title = element("h3", {}, element("span", {}, variant || "answer"));
    this.stages = element("p", { class: "soft stages" });
    this.list = element("ol");
    this.problem = element("div", { class: "problem", role: "alert" });
    this.card = element("section", { class: `card answer ${variant || "control"}`, "aria-label": variant || "answer" },
      this.title, this.stages, this.problem, this.list);
  }

  async ask(request, visitor) {
    const headers = { "Content-Type": "application/json" };
    if (visitor) headers["X-Visitor-Id"] = visitor;
    if (this.variant) headers["X-Variant"] = this.variant;
    try {
      const answer = await fetch("v1/rank", { method: "POST", headers, body: JSON.stringify(request) });
      return { status: answer.status, body: await answer.json(), timing: answer.headers.get("Server-Timing") };
    } catch {
      return { status: 0, body: { detail: "The service does not answer." } };
    }
  }

  /** Shows an answer, and how places differ from the `first`'s. Returns the order of ids, or null of a problem. */
  show({ status, body, timing }, first) {
    const well = status === 200;
    this.problem.replaceChildren(...(well ? [] : problem(body)));
    this.list.hidden = !well;
    this.stages.textContent = well ? stages(timing, body) : "";
    if (!well) return null;
    this.#name(body);
    const before = first.status === 200 && first.body !== body ? places(first.body.ranking) : null;
    this.#order(body.ranking, before, new Set(body.unknown_candidates));
    return body.ranking.map(({ id }) => id);
  }

  #name({ variant, model, assignment }) {
    this.card.classList.remove("control", "treatment");
    this.card.classList.add(variant);
    const how = assignment === "hash" ? "by the visitor's hash" : assignment === "fallback" ? "without a split" : "";
    this.title.replaceChildren(element("span", {}, variant),
      element("span", { class: "soft" }, `${model.name}/${model.version}${how && `, ${how}`}`));
  }

  #order(ranking, before, unknown) {
    const tops = new Map([...this.places].map(([id, place]) => [id, place.offsetTop]));
    const scores = ranking.map(({ score }) => score);
    const [least, most] = [Math.min(...scores), Math.max(...scores)];
    const made = ranking.map((one) => {
      const share = most > least ? (one.score - least) / (most - least) : 1;
      return [one.id, this.#place(one, 4 + 96 * share, before?.get(one.id), unknown.has(one.id))];
    });
    this.places = new Map(made);
    this.list.replaceChildren(...this.places.values());
    if (!stillness.matches) this.#glide(tops);
  }

  #place({ id, score, position }, width, was, unknown) {
    const bar = element("i");
    bar.style.width = `${width}%`;
    const place = element("li", { class: "place", "data-id": id },
      element("span", { class: "position" }, `${position}`),
      element("span", { class: "activity" }, this.#id(id), element("span", { class: "known" }, unknown ? "unknown" : facts(this.known[id]))),
      moved(was, position),
      element("span", { class: "score" }, score.toFixed(3)),
      element("span", { class: "bar", "aria-hidden": "true" }, bar));
    place.addEventListener("pointerenter", () => same(id, true));
    place.addEventListener("pointerleave", () => same(id, false));
    return place;
  }

  #id(id) {
    if (!this.click) return element("span", { class: "id" }, id);
    const button = element("button", { type: "button", class: "id", title: `Click ${id} as this visitor` }, id);
    button.addEventListener("click", () => this.click(id));
    return button;
  }

  #glide(tops) {
    for (const [id, place] of this.places) {
      const distance = tops.has(id) ? tops.get(id) - place.offsetTop : 0;
      if (distance) place.animate([{ transform: `translateY(${distance}px)` }, { transform: "none" }], { duration: 320, easing: "ease" });
    }
  }
}

function contextFields(models) {
  const fields = new Map();
  for (const model of models) {
    for (const feature of model.features) if (feature.role === "context") fields.set(feature.name, feature);
  }
  return [...fields.values()];
}

function field(feature, value) {
  const id = `context-${feature.name}`;
  const label = element("label", { for: id }, feature.name.replaceAll("_", " "));
  const choices = feature.type === "boolean" ? ["true", "false"] : feature.categories;
  if (!choices) {
    const step = feature.type === "integer" ? 1 : "any";
    return element("div", { class: "field" }, label, element("input", { id, type: "number", step, value: value ?? "" }));
  }
  const options = ["", ...choices].map((choice) => element("option",
    { value: choice, selected: choice === `${value ?? ""}` ? "" : null }, choice || "missing"));
  return element("div", { class: "field" }, label, element("select", { id }, ...options));
}

function read(feature, text) {
  if (text === "") return null;
  if (feature.type === "category") return text;
  return feature.type === "boolean" ? text === "true" : Number(text);
}

function facts(known) {
  const said = Object.entries(known || {}).filter(([, value]) => value !== null && typeof value !== "boolean").slice(0, 2);
  return said.map(([name, value]) => typeof value === "number" ? `${name} ${figure(value)}` : `${value}`.replaceAll("_", " ")).join(" · ");
}

function moved(was, position) {
  const by = was === undefined ? 0 : was - position;
  if (!by) return element("span", { class: "moved" });
  const words = `${by > 0 ? "up" : "down"} ${Math.abs(by)} from control`;
  return element("span", { class: "moved" }, element("span", { "aria-hidden": "true" }, `${by > 0 ? "▲" : "▼"}${Math.abs(by)}`),
    element("span", { class: "hidden" }, words));
}

function same(id, on) {
  for (const place of document.querySelectorAll(`.place[data-id="${CSS.escape(id)}"]`)) place.classList.toggle("same", on);
}

function places(ranking) {
  return new Map(ranking.map(({ id, position }) => [id, position]));
}

function stages(timing, body) {
  const parts = new Map([...(timing || "").matchAll(/(\w+);dur=([\d.]+)/g)].map(([, name, ms]) => [name, Number(ms)]));
  const all = [...parts.values()].reduce((sum, ms) => sum + ms, 0);
  const times = parts.size ? `${figure(all)} ms in the service, ${figure(parts.get("score"))} of them scoring` : "";
  return times + (body.degraded ? "; without the visitor's history" : "");
}

function problem({ detail, faults = [] }) {
  return [element("p", {}, detail), element("ul", {}, ...faults.map(({ place, message }) => element("li", {}, `${place}: ${message}`)))];
}

/** How far two orders agree: the share of pairs that both put the same way round. */
function outcome([control, treatment]) {
  if (!control || !treatment) return control ? `${control.length} activities ranked` : "";
  const place = new Map(treatment.map((id, n) => [id, n]));
  let agreed = 0, pairs = 0;
  control.forEach((id, n) => control.slice(n + 1).forEach((later) => {
    pairs += 1;
    agreed += place.get(id) < place.get(later);
  }));
  const share = pairs ? `; the models agree on ${Math.round(100 * agreed / pairs)} % of pairs` : "";
  return `${control.length} activities ranked${share}`;
}
