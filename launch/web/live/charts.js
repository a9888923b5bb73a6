// Curves as SVG: one chart with a legend that shows the newest values, or those under the pointer.

import { draw, make } from "./dom.js";
import { clock, figure } from "./format.js";

const LEFT = 44;
const BOTTOM = 18;
const TOP = 6;
const NUM_COLOURS = 7;

/** Classes of the colour and dash of line number `index`. */
export function lineClass(index) {
  const dashed = Math.floor(index / NUM_COLOURS) % 2 === 1;
  return `s${index % NUM_COLOURS}${dashed ? " dash" : ""}`;
}

/** A chart of several lines over seconds. */
export class Chart {
  /** `text` writes values, `guide` is a height with a dashed line, `inView` are heights always in view. */
  constructor(parent, heading, { unit, text = figure, guide = null, inView = [0] }) {
    this.text = text;
    this.guide = guide;
    this.inView = inView;
    this.lines = [];
    this.seconds = [];
    this.at = null;
    this.legend = make("p", "legend");
    this.svg = draw("svg", "", { role: "img", "aria-label": `${heading} over time` });
    const head = make("div", "head", {}, make("h2", "", {}, heading), make("p", "quiet small", {}, unit));
    parent.append(make("section", "card chart", {}, head, this.legend, this.svg));
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
    new ResizeObserver(() => this.redraw()).observe(this.svg);
  }

  /** `lines`: [{label, values, index, scatter}], values as long as `seconds`, null for gaps. */
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
      .filter(Number.isFinite);
    const shown = [...known, ...this.inView];
    const highest = shown.length ? Math.max(...shown) : 1;
    const lowest = shown.length ? Math.min(...shown) : 0;
    this.step = niceStep((highest - lowest) / 3 || 1);
    this.bottom = Math.floor(lowest / this.step) * this.step;
    this.top = Math.max(Math.ceil(highest / this.step) * this.step, this.bottom + this.step);
    const times = [...this.seconds, ...this.lines.flatMap((line) => (line.scatter ?? []).map((p) => p[0]))];
    this.first = Math.min(...times);
    this.last = Math.max(...times, this.first + 1);
  }

  x(seconds) {
    return LEFT + ((seconds - this.first) / (this.last - this.first)) * (this.width - LEFT - 6);
  }

  y(value) {
    const share = (value - this.bottom) / (this.top - this.bottom);
    return this.height - BOTTOM - share * (this.height - BOTTOM - TOP);
  }

  axes() {
    const parts = [];
    for (let value = this.bottom; value <= this.top + this.step / 2; value += this.step) {
      const y = this.y(value);
      parts.push(draw("line", "grid", { x1: LEFT, x2: this.width, y1: y, y2: y }));
      parts.push(draw("text", "", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, this.text(value)));
    }
    if (this.guide !== null) {
      const y = this.y(this.guide);
      parts.push(draw("line", "guide", { x1: LEFT, x2: this.width, y1: y, y2: y }));
    }
    if (Number.isFinite(this.first)) {
      const y = this.height - 4;
      parts.push(draw("text", "", { x: LEFT, y }, clock(this.first)));
      parts.push(draw("text", "", { x: this.width, y, "text-anchor": "end" }, clock(this.last)));
    }
    return parts;
  }

  curve(line) {
    const points = [];
    line.values.forEach((value, i) => {
      if (Number.isFinite(value)) points.push(`${this.x(this.seconds[i]).toFixed(1)},${this.y(value).toFixed(1)}`);
    });
    const style = lineClass(line.index);
    const parts = [draw("polyline", `curve ${style}`, { points: points.join(" ") })];
    for (const [seconds, value] of line.scatter ?? []) {
      parts.push(draw("circle", style, { cx: this.x(seconds), cy: this.y(value), r: 3, fill: "none", "stroke-width": 1.6 }));
    }
    return parts;
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - 6);
    const seconds = this.first + share * (this.last - this.first);
    this.at = nearest(this.seconds, seconds);
    this.showValues();
  }

  leave() {
    this.at = null;
    this.showValues();
  }

  showValues() {
    const isPointed = this.at !== null && this.at < this.seconds.length;
    if (this.cursor) {
      this.cursor.setAttribute("visibility", isPointed ? "visible" : "hidden");
      if (isPointed) {
        this.cursor.setAttribute("x1", this.x(this.seconds[this.at]));
        this.cursor.setAttribute("x2", this.x(this.seconds[this.at]));
      }
    }
    const items = this.lines.map((line) => {
      const value = isPointed ? line.values[this.at] : lastKnown(line.values);
      return make("span", "", {}, make("i", lineClass(line.index)), line.label, make("b", "", {}, this.text(value)));
    });
    if (isPointed) items.push(make("span", "", {}, `at ${clock(this.seconds[this.at])}`));
    this.legend.replaceChildren(...items);
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
