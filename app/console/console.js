// The page: looks at the service once a second and shows what it sees.

import { Bars, Lines } from "./charts.js";
import { byId, element, figure } from "./elements.js";
import { added, buckets, parse, quantile, samples, total } from "./exposition.js";
import { Playground } from "./playground.js";
import { Visitors } from "./visitors.js";

const EVERY_MS = 1000;
const WINDOW = 10; // looks: what quantiles and bars are of
const REQUESTS = ["control", "treatment"];

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  return path === "metrics" ? parse(await answer.text()) : answer.json();
}

class Live {
  constructor(variants) {
    this.variants = variants;
    this.looks = [];
    const kinds = variants.map((variant) => ({ name: variant, kind: variant }));
    this.rate = new Lines("Rankings a second", kinds, { least: 5 });
    this.latency = new Lines("Latency", [{ name: "p99", kind: "" }, { name: "p50", kind: "faint" }], { unit: "ms", least: 2 });
    this.batches = new Bars("Requests in a batch", variants);
    this.load = new Lines("Load", [{ name: "of capacity", kind: "" }], { unit: "%", least: 20 });
    byId("charts").append(...[this.rate, this.latency, this.batches, this.load].map((chart) => chart.card));
  }

  take(series) {
    const look = { at: performance.now(), series };
    this.looks.push(look);
    if (this.looks.length > WINDOW + 1) this.looks.shift();
    const since = (name, wanted, from) => Math.max(0, total(series, name, wanted) - total(from.series, name, wanted));
    this.#rates(look, since);
    this.#latency(look);
    this.#batches(look);
    this.#load(look, since);
    this.#split(series);
    drift(series, this.variants);
  }

  #rates(look, since) {
    const before = this.looks.at(-3) || this.looks[0];
    const seconds = (look.at - before.at) / 1e3;
    const rates = this.variants.map((variant) => since("frontrow_requests_offered_total", { variant }, before) / seconds);
    this.rate.push(seconds ? rates.map((rate) => Math.round(10 * rate) / 10) : this.variants.map(() => null));
  }

  #between(look, name, wanted) {
    return added(buckets(look.series, name, wanted), buckets(this.looks[0].series, name, wanted));
  }

  #latency(look) {
    const histogram = this.#between(look, "frontrow_request_duration_seconds");
    const of = (share) => { const seconds = quantile(share, histogram); return seconds === null ? null : 1e3 * seconds; };
    this.latency.push([of(0.99), of(0.5)]);
  }

  #batches(look) {
    const each = this.variants.map((variant) => this.#between(look, "frontrow_batch_requests", { variant }));
    const counts = each.map((histogram) => histogram.map(({ count }) => count));
    const names = each[0].map(({ below }, n) => below === Infinity ? "more" : n && below > 2 ? `≤${below}` : `${below}`);
    const batches = counts.flat().reduce((sum, count) => sum + count, 0);
    const from = this.looks[0].series;
    const requests = total(look.series, "frontrow_batch_requests_sum") - total(from, "frontrow_batch_requests_sum");
    const rows = total(look.series, "frontrow_batch_rows_sum") - total(from, "frontrow_batch_rows_sum");
    const mean = (sum) => figure(batches ? sum / batches : null);
    this.batches.show(names, counts, [mean(requests), `on average, ${mean(rows)} rows`]);
  }

  #load(look, since) {
    const refused = since("frontrow_shed_total", {}, this.looks[0]);
    const load = Math.round(1000 * total(look.series, "frontrow_offered_utilization")) / 10;
    this.load.push([load], refused ? `${figure(refused)} refused` : "");
  }

  #split(series) {
    if (this.variants.length < 2) return;
    const counts = this.variants.map((variant) => total(series, "frontrow_assignments_total", { variant, reason: "hash" }));
    const sum = counts.reduce((a, b) => a + b, 0);
    this.split = sum ? `So far ${figure(sum)} rankings of split visitors, ${figure(100 * counts[1] / sum)} % to treatment.` : "";
    byId("split-words").textContent = `${this.promise} ${this.split}`;
  }
}

function describe(model) {
  const fact = (name, value) => element("div", {}, element("dt", {}, name), element("dd", {}, `${value}`));
  const day = (time) => new Date(time).toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
  return element("article", { class: `card model ${model.variant}`, "aria-label": `Model of ${model.variant}` },
    element("h3", {}, `${model.name}/${model.version}`, element("span", { class: "variant" }, model.variant)),
    element("dl", { class: "facts" },
      fact("trees", figure(model.trees)),
      fact("features", model.features.length),
      fact("activities", figure(model.activities)),
      fact("trained", day(model.trained_at)),
      fact("engine", model.engine),
      fact("from", model.alias ? `${model.origin}, ${model.alias}` : model.origin),
      fact("sha256", model.sha256.slice(0, 12))));
}

function showSplit(experiment) {
  const [control, treatment] = byId("split-bar").children;
  const share = experiment.running ? experiment.treatment_share : 0;
  control.style.flexGrow = 1 - share;
  treatment.style.flexGrow = share;
  treatment.hidden = !share;
  if (!experiment.running) return "No experiment is running: every visitor gets control.";
  return `Experiment ${experiment.name} gives ${figure(100 * share)} % of visitors treatment, each always the same.`;
}

function drift(series, variants) {
  const name = "frontrow_feature_drift_psi", alarm = "frontrow_feature_drift_alarm";
  const measured = samples(series, name).filter(({ value }) => Number.isFinite(value));
  byId("drift").hidden = !measured.length;
  if (!measured.length) return;
  byId("drifts").replaceChildren(...variants.map((variant) => element("div", { class: `card ${variant}` },
    element("h3", {}, variant),
    ...samples(series, name, { variant }).filter(({ value }) => Number.isFinite(value))
      .sort((a, b) => b.value - a.value).map(({ labels, value }) => {
        const bar = element("i");
        bar.style.width = `${Math.min(100, 100 * value / 0.5)}%`;
        const far = total(series, alarm, labels) > 0;
        return element("div", { class: far ? "drift-line far" : "drift-line" },
          element("span", {}, labels.feature), element("span", { class: "bar", "aria-hidden": "true" }, bar),
          element("span", { class: "value" }, far ? `${value.toFixed(2)} !` : value.toFixed(2),
            far ? element("span", { class: "hidden" }, "alarm") : null));
      }))));
}

function state(kind, words) {
  const pill = byId("state");
  if (pill.textContent === words) return; // it is announced when it changes
  pill.textContent = words;
  pill.className = `state ${kind}`;
}

async function look(live) {
  try {
    const [series, ready] = await Promise.all([ask("metrics"), ask("readyz")]);
    live.take(series);
    if (ready.ready) state("well", ready.notes.length ? `Ready; ${ready.notes.join("; ")}` : "Ready");
    else state("ill", `Not ready: ${ready.missing.join("; ")}`);
  } catch {
    state("ill", "The service does not answer");
  }
}

async function begin() {
  const [{ models }, experiment, version, example] = await Promise.all(
    ["v1/models", "v1/experiment", "version", "console/example"].map(ask));
  byId("models").replaceChildren(...models.map(describe));
  byId("identity").textContent = `Code ${version.code_version}, running since ${new Date(version.started_at).toLocaleString("en")}.`;
  const variants = REQUESTS.filter((variant) => models.some((model) => model.variant === variant));
  const live = new Live(variants);
  live.promise = showSplit(experiment);
  byId("split-words").textContent = live.promise;
  const playground = new Playground(models, experiment, example);
  new Visitors(byId("visitors"), () => playground.request());
  playground.rank();
  for (;;) {
    if (!document.hidden) await look(live);
    await new Promise((resume) => setTimeout(resume, EVERY_MS));
  }
}

begin().catch(() => state("ill", "The service does not answer; reload this page when it does"));
