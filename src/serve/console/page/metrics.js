// What this process measures of itself: the text that Prometheus reads.

const LINE = /^([a-z_:]+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g;

/** [{name, labels, value}] */
export function parse(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const parts = LINE.exec(line);
    if (!parts) continue;
    const labels = {};
    for (const [, name, value] of (parts[2] || "").matchAll(LABEL)) labels[name] = value;
    found.push({ name: parts[1], labels, value: Number(parts[3]) });
  }
  return found;
}

export function sum(samples, name, where = () => true) {
  const values = samples.filter((sample) => sample.name === name && where(sample.labels)).map((sample) => sample.value);
  return values.length ? values.reduce((all, one) => all + one, 0) : null;
}

/** Counters over time; their rates a second over some seconds. */
export class Rates {
  constructor(seconds) {
    this.seconds = seconds;
    this.taken = [];
  }

  take(at, values) {
    const last = this.taken.at(-1);
    // A counter that went back belongs to another process.
    if (last && Object.keys(values).some((name) => values[name] < last.values[name])) this.taken = [];
    this.taken.push({ at, values });
    while (this.taken.length > 2 && this.taken[1].at < at - this.seconds * 1000) this.taken.shift();
  }

  of(name) {
    const [first, last] = [this.taken[0], this.taken.at(-1)];
    if (!first || last.at - first.at < 500) return null;
    return (last.values[name] - first.values[name]) / ((last.at - first.at) / 1000);
  }
}
