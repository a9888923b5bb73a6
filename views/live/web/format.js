// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const NONE = "\u2013";

/** About three digits: 0.0123, 1.23, 12.3, 123, 12,345. */
export function figure(value) {
  if (!Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 100 || value === 0) return whole.format(value);
  const digits = size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 2 : 3;
  return String(Number(value.toFixed(digits)));
}

/** 1.2 M, 34 k, 567. */
export function short(value) {
  if (!Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= limit) return `${figure(value / limit)}\u00a0${unit}`;
  }
  return figure(value);
}

export function count(value) {
  return Number.isFinite(value) ? whole.format(value) : NONE;
}

/** A share of 1 in percent. */
export function percent(value) {
  return Number.isFinite(value) ? `${whole.format(Math.round(100 * value) || 0)}%` : NONE; // Never -0%.
}

/** A score, to one place. */
export function score(value) {
  if (!Number.isFinite(value)) return NONE;
  return Math.abs(value) >= 1000 ? whole.format(value) : String(Number(value.toFixed(1)));
}

export function bytes(value) {
  return Number.isFinite(value) ? `${short(value)}B` : NONE;
}

/** h:mm:ss since something. */
export function clock(seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  const total = Math.max(0, Math.round(seconds));
  const two = (n) => String(n).padStart(2, "0");
  return `${Math.floor(total / 3600)}:${two(Math.floor(total / 60) % 60)}:${two(total % 60)}`;
}

/** In one unit: 45 s, 12 min, 3.4 h, 2.1 days. */
export function span(seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  if (seconds < 90) return `${Math.round(seconds)}\u00a0s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)}\u00a0min`;
  if (seconds < 48 * 3600) return `${(seconds / 3600).toFixed(1)}\u00a0h`;
  return `${(seconds / 86400).toFixed(1)}\u00a0days`;
}

/** space_invaders -> Space Invaders. */
export function title(game) {
  return game.split("_").map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join(" ");
}
