// The text of a scrape, and the questions that the page has for it.

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Name of a series -> its samples: [{labels, value}]. */
export function parse(text) {
  const series = new Map();
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : SAMPLE.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] || "").matchAll(LABEL)) labels[name] = value.replace(/\\(.)/g, "$1");
    if (!series.has(found[1])) series.set(found[1], []);
    series.get(found[1]).push({ labels, value: Number(found[3].replace("Inf", "Infinity")) });
  }
  return series;
}

export function samples(series, name, wanted = {}) {
  const matches = ({ labels }) => Object.entries(wanted).every(([label, value]) => labels[label] === value);
  return (series.get(name) || []).filter(matches);
}

export function total(series, name, wanted) {
  return samples(series, name, wanted).reduce((sum, sample) => sum + sample.value, 0);
}

/** How many fell between the bounds: [{below, count}], summed over the labels that are not wanted. */
export function buckets(series, name, wanted) {
  const cumulative = new Map();
  for (const { labels, value } of samples(series, `${name}_bucket`, wanted)) {
    const below = Number(labels.le.replace("+Inf", "Infinity"));
    cumulative.set(below, (cumulative.get(below) || 0) + value);
  }
  const bounds = [...cumulative.keys()].sort((a, b) => a - b);
  return bounds.map((below, n) => ({ below, count: cumulative.get(below) - (n ? cumulative.get(bounds[n - 1]) : 0) }));
}

/** What was added between two looks at the same histogram. */
export function added(now, before) {
  const then = new Map(before.map(({ below, count }) => [below, count]));
  return now.map(({ below, count }) => ({ below, count: Math.max(0, count - (then.get(below) || 0)) }));
}

/** The quantile by linear interpolation, as Prometheus does it; null of nothing. */
export function quantile(share, histogram) {
  const wanted = share * histogram.reduce((sum, { count }) => sum + count, 0);
  if (!wanted) return null;
  let seen = 0, from = 0;
  for (const { below, count } of histogram) {
    if (seen + count >= wanted) return below === Infinity ? from : from + (below - from) * (wanted - seen) / count;
    seen += count;
    from = below;
  }
  return from;
}
