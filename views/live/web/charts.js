// Curves as SVG: one chart with a legend that shows the newest values, or those at one time, which
// the pointer or the arrow keys choose.

import { draw, make, say } from "./dom.js";
import { clock, figure } from "./format.js";

const MIN_LEFT = 44;
const DIGIT = 6.6; // Width of a figure on an axis.
const BOTTOM = 18;
const TOP = 6;
const NUM_COLOURS = 7;

/** Classes of the colour and dash of a line: of its own, or those of game number `index`. */
function lineClass({ index, look }) {
  if (look) return look;
  const dashed = Math.floor(index / NUM_COLOURS) % 2 === 1;
  return `s${index % NUM_COLOURS}${dashed ? " dash" : ""}`;
}

/** A chart of several lines over seconds. */
export class Chart {
  /**
   * `text` writes values, `guide` is a height with a dashed line, `inView` are heights always in
   * view, `limits` are the lowest and highest value that may stretch the axis: what lies beyond is
   * drawn at the edge.
   */
  constructor(parent, heading, { unit, text = figure, guide = null, inView = [0], limits = [-Infinity, Infinity] }) {
    this.text = text;
    this.limits = limits;
    this.guide = guide;
    this.inView = inView;
    this.lines = [];
    this.seconds = [];
    this.left = MIN_LEFT;
    this.at = null; // Seconds, not a place: curves are thinned out as they grow.
    this.legend = make("p", "legend");
    this.unit = unit;
    this.note = make("p", "quiet small", {}, unit);
    this.spoken = make("p", "skip", { role: "status" });
    // An application: screen readers leave the arrow keys to it.
    this.svg = draw("svg", "", {
      role: "application", tabindex: 0, "aria-label": `${heading} over time; arrow keys read the values`,
    });
    const head = make("div", "head", {}, make("h2", "", {}, heading), this.note);
    parent.append(make("section", "card chart", {}, head, this.legend, this.svg, this.spoken));
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.svg.addEventListener("keydown", (event) => this.press(event));
    this.svg.addEventListener("blur", () => this.leave());
    new ResizeObserver(() => this.redraw()).observe(this.svg);
  }

  /** `lines`: [{label, values, index or look, scatter}], values as long as `seconds`, null for gaps. */
  show(seconds, lines) {
    this.seconds = seconds;
    this.lines = lines;
    this.redraw();
  }

  redraw() {
    const box = this.svg.getBoundingClientRect();
    if (!box.width) return;
    this.width = box.width;
    this.height = box.height;
    this.svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    this.range();
    this.svg.replaceChildren(...this.axes(), ...this.lines.flatMap((line) => this.curve(line)));
    this.cursor = draw("line", "cursor", { y1: TOP, y2: this.height - BOTTOM, visibility: "hidden" });
    this.svg.append(this.cursor);
    this.showValues();
  }

  range() {
    const known = this.lines.flatMap((line) => [...line.values, ...(line.scatter ?? []).map((p) => p[1])])
      .filter(Number.isFinite).map((value) => this.clamp(value));
    const shown = [...known, ...this.inView];
    const highest = shown.length ? Math.max(...shown) : 1;
    const lowest = shown.length ? Math.min(...shown) : 0;
    // A curve that hardly moves gets an axis on which it hardly moves, and ticks that differ.
    const least = Math.max(Math.abs(highest), Math.abs(lowest)) / 20;
    this.step = niceStep(Math.max((highest - lowest) / 3, least) || 1);
    this.bottom = Math.floor(lowest / this.step) * this.step;
    this.top = Math.max(Math.ceil(highest / this.step) * this.step, this.bottom + this.step);
    const longest = Math.max(...[this.bottom, this.bottom + this.step, this.top].map((value) => this.text(value).length));
    this.left = Math.max(MIN_LEFT, DIGIT * longest + 10);
    const times = [...this.seconds, ...this.lines.flatMap((line) => (line.scatter ?? []).map((p) => p[0]))];
    this.first = Math.min(...times);
    this.last = Math.max(...times, this.first + 1);
  }

  clamp(value) {
    return Math.min(this.limits[1], Math.max(this.limits[0], value));
  }

  x(seconds) {
    return this.left + ((seconds - this.first) / (this.last - this.first)) * (this.width - this.left - 6);
  }

  y(value) {
    const share = (this.clamp(value) - this.bottom) / (this.top - this.bottom);
    return this.height - BOTTOM - share * (this.height - BOTTOM - TOP);
  }

  axes() {
    const parts = [];
    const digits = Math.max(0, -Math.floor(Math.log10(this.step) + 1e-9));
    for (let i = 0; this.bottom + (i - 0.5) * this.step <= this.top; i += 1) {
      const value = Number((this.bottom + i * this.step).toFixed(digits)); // Not 0.30000000000000004.
      const y = this.y(value);
      parts.push(draw("line", "grid", { x1: this.left, x2: this.width, y1: y, y2: y }));
      parts.push(draw("text", "", { x: this.left - 6, y: y + 4, "text-anchor": "end" }, this.text(value)));
    }
    if (this.guide !== null) {
      const y = this.y(this.guide);
      parts.push(draw("line", "guide", { x1: this.left, x2: this.width, y1: y, y2: y }));
    }
    if (Number.isFinite(this.first)) {
      const y = this.height - 4;
      parts.push(draw("text", "", { x: this.left, y }, clock(this.first)));
      parts.push(draw("text", "", { x: this.width, y, "text-anchor": "end" }, clock(this.last)));
    }
    return parts;
  }

  curve(line) {
    const points = [];
    line.values.forEach((value, i) => {
      if (Number.isFinite(value)) points.push(`${this.x(this.seconds[i]).toFixed(1)},${this.y(value).toFixed(1)}`);
    });
    const style = lineClass(line);
    const parts = [draw("polyline", `curve ${style}`, { points: points.join(" ") })];
    for (const [seconds, value] of line.scatter ?? []) {
      parts.push(draw("circle", style, { cx: this.x(seconds), cy: this.y(value), r: 3, fill: "none", "stroke-width": 1.6 }));
    }
    return parts;
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - this.left) / (box.width - this.left - 6);
    this.at = this.first + share * (this.last - this.first);
    this.showValues();
  }

  /** From the newest value back, or from the oldest on. */
  press(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const last = this.seconds.length - 1;
    const place = this.place();
    const places = {
      ArrowLeft: place === null ? last : place - 1, ArrowRight: place === null ? 0 : place + 1, Home: 0, End: last,
    };
    if (event.key === "Escape") this.leave();
    else if (event.key in places && last >= 0) {
      this.at = this.seconds[Math.min(last, Math.max(0, places[event.key]))];
      this.showValues();
      say(this.spoken, `${this.note.textContent}: ${this.values().map(([line, text]) => `${line.label} ${text}`).join(", ")}`);
    } else return;
    event.preventDefault(); // They would scroll the page.
  }

  leave() {
    this.at = null;
    say(this.spoken, "");
    this.showValues();
  }

  /** Which point is read; null for none. */
  place() {
    return this.at === null || !this.seconds.length ? null : nearest(this.seconds, this.at);
  }

  /** [[line, text]]: the values that are read, else the newest. */
  values() {
    const place = this.place();
    return this.lines.map((line) => [line, this.text(place === null ? lastKnown(line.values) : line.values[place])]);
  }

  showValues() {
    const place = this.place();
    if (this.cursor) {
      this.cursor.setAttribute("visibility", place === null ? "hidden" : "visible");
      if (place !== null) {
        this.cursor.setAttribute("x1", this.x(this.seconds[place]));
        this.cursor.setAttribute("x2", this.x(this.seconds[place]));
      }
    }
    this.legend.replaceChildren(...this.values().map(([line, text]) =>
      make("span", "", {}, make("i", lineClass(line)), line.label, make("b", "", {}, text))));
    say(this.note, place === null ? this.unit : `at ${clock(this.seconds[place])}`);
  }
}

/** A small curve without axes, from 0 up. */
export function spark(svg, values) {
  const known = values.map((value, i) => [i, value]).filter(([, value]) => Number.isFinite(value));
  if (known.length < 2) return svg.replaceChildren();
  const highest = Math.max(...known.map(([, value]) => value)) || 1;
  const lowest = Math.min(0, ...known.map(([, value]) => value));
  const last = values.length - 1;
  const points = known.map(([i, value]) =>
    `${((i / last) * 100).toFixed(2)},${(24 - ((value - lowest) / (highest - lowest || 1)) * 22).toFixed(2)}`);
  svg.setAttribute("viewBox", "0 0 100 26");
  svg.setAttribute("preserveAspectRatio", "none");
  const line = draw("polyline", "spark", { points: points.join(" "), "vector-effect": "non-scaling-stroke" });
  return svg.replaceChildren(line);
}

export function lastKnown(values) {
  for (let i = values.length - 1; i >= 0; i--) if (Number.isFinite(values[i])) return values[i];
  return NaN;
}

function nearest(sorted, wanted) {
  let best = 0;
  sorted.forEach((value, i) => {
    if (Math.abs(value - wanted) < Math.abs(sorted[best] - wanted)) best = i;
  });
  return best;
}

/** 1, 2 or 5 times a power of ten, at least as large. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  for (const factor of [1, 2, 5, 10]) if (factor * power >= least * 0.999) return factor * power;
  return 10 * power;
}
