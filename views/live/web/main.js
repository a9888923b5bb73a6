// The page: what the server says twice a second, put in its place.

import { setWritable, startAccess } from "./access.js";
import { Chart, spark } from "./charts.js";
import { byId, draw, make, say } from "./dom.js";
import { bytes, clock, count, figure, percent, short, span, title } from "./format.js";
import { accessChanged, showGames } from "./games.js";
import { offerGames, startPlayer } from "./player.js";
import { showPopulation } from "./population.js";

const WORDS = {
  starting: "Starting", training: "Training", testing: "Testing",
  ended: "Ended", stopped: "Stopped", lost: "Redis lost",
};
const LIMITS = { actors: "Actors", replay: "Replay", network: "Network", learner: "Learner" };
const SHARE = /^(\w+)_(busy|waiting|held)$/;
const KINDS = { busy: "works", waiting: "waits", held: "held back" };
const BUSY = 0.6; // As records/verdict.py.
const RELOAD_CURVES_MS = 60_000;
const QUIET_MS = 4_000;

const TILES = [
  { key: "steps_per_second", label: "Steps", unit: "per second", extra: framesPerSecond },
  { key: "samples_per_second", label: "Samples", unit: "per second" },
  { key: "updates_per_second", label: "Updates", unit: "per second" },
  { key: "samples_per_insert", label: "Samples per insert", unit: "draws per stored transition" },
  { key: "policy_lag", label: "Policy lag", unit: "updates" },
  { key: "faults", label: "Mended faults", unit: "restarts, this session" },
];

let document_ = null; // The newest state.
let received = 0;
let renewed = 0; // When the launcher's figures last changed.
let curves = { looks: { seconds: [] }, tests: {} };
let curvesLoaded = 0;
let stream = null;
let charts = null;
const tiles = new Map();

function start() {
  startAccess(accessChanged);
  startPlayer();
  buildTiles();
  buildCharts();
  document.addEventListener("visibilitychange", listen);
  setInterval(showAge, 1000);
  listen();
}

/** Hear the server while this tab is seen. */
function listen() {
  if (document.hidden) {
    stream?.close();
    stream = null;
    return;
  }
  if (stream && stream.readyState !== EventSource.CLOSED) return;
  stream = new EventSource("/api/events");
  stream.addEventListener("state", (event) => show(JSON.parse(event.data)));
  stream.addEventListener("error", () => {
    if (stream?.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  });
}

function show(state) {
  if (state.seconds !== document_?.seconds) renewed = performance.now();
  document_ = state;
  received = performance.now();
  const isOver = state.state === "ended" || state.state === "stopped";
  setWritable(state.writable && !isOver);
  showTop(state, isOver);
  showVerdict(state.verdict, isOver);
  showGames(state.games, isOver);
  showPopulation(state.population);
  showEvents(state.events);
  takePoint(state.point);
  showTiles(state, isOver);
  showUnits(state.frames_per_step);
  showAge();
  offerGames(state.games); // Last: what is in view is known when all has its place.
}

function showTop(state, isOver) {
  say(byId("name"), state.name);
  const title_ = `${state.name} \u00b7 ${WORDS[state.state] ?? state.state}`;
  if (document.title !== title_) document.title = title_;
  const parts = [state.preset && `preset ${state.preset}`, state.host && `on ${state.host}`, Number.isFinite(state.seconds) && `${clock(state.seconds)} since the start`];
  say(byId("about"), parts.filter(Boolean).join(" \u00b7 "));
  byId("state").dataset.state = state.state;
  say(byId("state-word"), WORDS[state.state] ?? state.state);
  const share = state.num_updates ? Math.min(1, state.updates / state.num_updates) : 0;
  const way = byId("way");
  way.firstElementChild.style.width = `${100 * share}%`;
  way.setAttribute("aria-valuenow", Math.round(100 * share));
  say(byId("way-steps"), `${count(state.steps)} steps, ${count(state.updates)} of ${count(state.num_updates)} updates`);
  say(byId("way-left"), state.left_s === null ? (isOver ? "" : percent(share)) : `${span(state.left_s)} left`);
}

function showVerdict(verdict, isOver) {
  const limit = byId("limit");
  limit.classList.toggle("none", !verdict);
  const none = isOver ? "No verdict" : "No verdict yet";
  say(limit, verdict ? LIMITS[verdict.limit] ?? verdict.limit : none);
  const why = isOver ? "the figures of this run do not say" : "it comes once the learner learns";
  say(byId("reason"), sentence(verdict ? verdict.reason : why));
  say(byId("advice"), verdict?.advice ? `To change that: ${verdict.advice}.` : "");
  byId("numbers").replaceChildren(...shares(verdict?.numbers ?? {}));
}

/** learner_busy, actors_held, ...: a line for each part, a column for each kind of share. */
function shares(numbers) {
  const parts = [...new Set(Object.keys(numbers).filter((name) => SHARE.test(name)).map((name) => name.match(SHARE)[1]))];
  const cell = (tag, text, className = "") => make(tag, className, {}, text);
  const rows = parts.map((part) => make("tr", "", {}, make("th", "", { scope: "row" }, part),
    ...Object.keys(KINDS).map((kind) => {
      const value = numbers[`${part}_${kind}`];
      return cell("td", Number.isFinite(value) ? percent(value) : "", value >= BUSY && kind === "busy" ? "much" : "");
    })));
  if (rows.length) rows.unshift(make("tr", "", {}, cell("td", ""), ...Object.values(KINDS).map((kind) => make("th", "", { scope: "col" }, kind))));
  const others = Object.entries(numbers).filter(([name]) => !SHARE.test(name));
  return [...rows, ...others.map(([name, value]) => make("tr", "", {}, make("th", "", { scope: "row" }, name.replaceAll("_", " ")), cell("td", figure(value))))];
}

function sentence(text) {
  return text ? `${text.charAt(0).toUpperCase()}${text.slice(1)}.` : "";
}

function buildTiles() {
  for (const tile of TILES) {
    const parts = {
      label: make("span", "label", {}, tile.label),
      value: make("span", "value", {}, "\u2013"),
      unit: make("span", "unit", {}, tile.unit),
      svg: draw("svg", "", { "aria-hidden": "true" }),
    };
    tiles.set(tile.key, parts);
    byId("tiles").append(make("div", "tile", {}, parts.label, parts.value, parts.unit, parts.svg));
  }
}

function showTiles(state, isOver) {
  for (const tile of TILES) {
    const parts = tiles.get(tile.key);
    if (tile.key === "faults") {
      showFaults(parts, state.faults);
      continue;
    }
    const value = state.figures[tile.key];
    say(parts.value, value >= 10000 ? short(value) : figure(value));
    const extra = isOver && state.means ? "mean" : tile.extra?.(state);
    say(parts.unit, [tile.unit, extra].filter(Boolean).join(", "));
    spark(parts.svg, curves.looks[tile.key] ?? []);
  }
}

/** Not known of a run that has ended, nor before the second look. */
function framesPerSecond(state) {
  const frames = state.figures.frames_per_second;
  return Number.isFinite(frames) ? `${short(frames)} frames/s` : "";
}

/** What a step is, in frames: games differ, and a run may mix them. */
function showUnits(frames) {
  const mean = Number.isInteger(frames) ? "" : " on average";
  say(byId("frames"), Number.isFinite(frames) ? ` = ${figure(frames)} ${frames === 1 ? "frame" : "frames"}${mean}` : "");
}

function showFaults(parts, faults) {
  const restarts = Object.entries(faults).filter(([kind]) => kind.endsWith("_restarts"));
  say(parts.value, count(restarts.reduce((sum, [, number]) => sum + number, 0)));
  const named = restarts.filter(([, number]) => number > 0)
    .map(([kind, number]) => `${number} ${kind.replace("_restarts", "")}`);
  const lost = faults.transitions_lost ? `${short(faults.transitions_lost)} transitions lost` : "";
  say(parts.unit, [...named, lost].filter(Boolean).join(", ") || "restarts, this session");
}

function showEvents(events) {
  const list = byId("events");
  const key = JSON.stringify(events);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const items = [...events].reverse().map((event) =>
    make("li", "", { "data-kind": event.kind }, make("time", "", {}, clock(event.seconds)), make("i"), make("span", "", {}, event.text)));
  if (!items.length) items.push(make("li", "empty", {}, "Nothing yet: restarts, checkpoints and changes of actors are listed here."));
  list.replaceChildren(...items);
}

function buildCharts() {
  const place = byId("curves");
  charts = {
    toward: new Chart(place, "From random play to the goal", { unit: "training episodes; rings are tests", text: percent, guide: 1, inView: [0, 1], limits: [-0.25, 2] }),
    rates: new Chart(place, "Steps per second", { unit: "by game", text: short }),
    waits: new Chart(place, "Who waits for whom", { unit: "callers, mean", inView: [0, 1] }),
    loss: new Chart(place, "Loss", { unit: "mean over batches", inView: [] }),
  };
}

/** The newest look goes on the curves; all of them are read again now and then. */
function takePoint(point) {
  const seconds = curves.looks.seconds;
  const last = seconds.length ? seconds.at(-1) : -Infinity;
  const isDue = performance.now() - curvesLoaded > RELOAD_CURVES_MS || !curvesLoaded;
  if (isDue || point.seconds < last) {
    curvesLoaded = performance.now();
    loadCurves();
  } else if (point.seconds > last) {
    for (const [name, values] of Object.entries(curves.looks)) values.push(point[name] ?? null);
    showCharts();
  }
}

async function loadCurves() {
  try {
    const response = await fetch("/api/curves");
    if (response.ok) curves = await response.json();
  } catch {
    curvesLoaded = 0; // The server has gone; the stream says when it is back.
    return;
  }
  showCharts();
}

function showCharts() {
  if (!document_) return;
  const { looks, tests } = curves;
  const games = document_.games;
  const toward = (game, value) => (Number.isFinite(value) && Number.isFinite(game.goal) && game.goal !== game.random
    ? (value - game.random) / (game.goal - game.random) : null);
  charts.toward.show(looks.seconds, games.map((game, index) => ({
    label: title(game.name), index,
    values: smooth((looks[`game/${game.name}/return`] ?? []).map((value) => toward(game, value))),
    scatter: (tests[game.name] ?? []).map((test) => [test.seconds, toward(game, test.mean)]).filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y)),
  })));
  charts.rates.show(looks.seconds, games.map((game, index) => ({
    label: title(game.name), index, values: looks[`game/${game.name}/steps_per_second`] ?? [],
  })));
  charts.waits.show(looks.seconds, [
    { label: "actors, for the learner", look: "plain-line", values: looks.insert_waiting ?? [] },
    { label: "learner, for the actors", look: "plain-line dash", values: looks.sample_waiting ?? [] },
  ]);
  charts.loss.show(looks.seconds, lossOf(looks));
  showTiles(document_, document_.state === "ended" || document_.state === "stopped");
}

/** The terms of the run's objective: what is learned from teachers, from rewards, or from both. */
const TERMS = {
  policy_loss: "policy loss, nats",
  td_loss: "value loss",
  value_loss: "critic's loss",
  distillation_loss: "distillation, nats",
  entropy: "entropy, nats",
  v_trace_clipped: "share that V-trace cuts off",
};

function lossOf(looks) {
  const known = Object.keys(TERMS).filter((key) => (looks[key] ?? []).some(Number.isFinite));
  const looksOf = ["plain-line", "plain-line dash"];
  return (known.length ? known : ["policy_loss"]).map((key, index) => ({
    label: TERMS[key], look: looksOf[index] ?? undefined, index, values: looks[key] ?? [],
  }));
}

/** Returns of single episodes scatter: a running mean, where there is anything. */
function smooth(values) {
  let mean = null;
  return values.map((value) => {
    if (!Number.isFinite(value)) return null;
    mean = mean === null ? value : mean + 0.25 * (value - mean);
    return mean;
  });
}

function showAge() {
  const notice = byId("notice");
  const isQuiet = performance.now() - received > QUIET_MS && !document.hidden;
  const text = isQuiet
    ? "Nothing is heard from the page's server. If the run has ended, open it again with launch/dashboard.py."
    : document_?.note ?? "";
  say(notice, text);
  notice.hidden = !text;
  const replay = document_?.figures["replay/bytes"];
  const isOver = document_?.state === "ended" || document_?.state === "stopped";
  const age = renewed && !isOver && `updated ${span((performance.now() - renewed) / 1000)} ago`;
  const { gradient_cosine: cosine, gradient_cosine_floor: floor } = document_?.figures ?? {};
  const agree = Number.isFinite(cosine)
    && `cosine of games' gradients ${cosine.toFixed(2)}, of one game's halves ${floor.toFixed(2)}`;
  const parts = [replay && `replay holds ${bytes(replay)}`, agree, age];
  say(byId("age"), parts.filter(Boolean).join(" \u00b7 "));
}

start();
