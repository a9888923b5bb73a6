// A row for each game: how far it is towards its teacher or human play, its speed and its actors.

import { askForActors, isUnlocked } from "./access.js";
import { byId, make, say } from "./dom.js";
import { count, figure, percent, score, short, title } from "./format.js";

const TRACK_END = 1.25; // The teacher's mark stands at 100 of 125 percent.
const SETTLE_MS = 600;
const MAX_ACTORS = 1024;
const LABELS = ["Game", "Towards the goal", "Score", "Steps", "Replay", "Actors"];

const rows = new Map();

/** Show all games of a state document. */
export function showGames(games, isOver) {
  const table = byId("games");
  if (rows.size !== games.length || games.some((game) => !rows.has(game.name))) {
    rows.clear();
    const right = (i) => (i === 3 || i === 4 || i === 5 ? " right" : "");
    const extra = { 3: " rate", 4: " kept" };
    const labels = LABELS.map((label, i) =>
      make("span", `${right(i)}${extra[i] ?? ""}`.trim(), { role: "columnheader" }, label));
    table.replaceChildren(make("div", "row labels", { role: "row" }, ...labels));
    games.forEach((game, index) => {
      const row = new Row(game.name, index);
      rows.set(game.name, row);
      table.append(row.element);
    });
  }
  const goals = new Set(games.map(goalOf));
  say(table.firstElementChild.children[1], goals.size === 1 ? `Towards ${[...goals][0]}` : "Towards the goal");
  for (const game of games) rows.get(game.name).show(game, isOver);
}

/** What 100% means in a game. */
export function goalOf(game) {
  return game.teacher === null ? "human play" : "the teacher";
}

/** How much each of the game's teachers counts beside its rewards now. */
function weightsOf(game) {
  const name = "distillation_weight";
  const keys = Object.keys(game.figures).filter((key) => key.startsWith(name)).sort();
  const weights = keys.map((key) => game.figures[key]);
  // Where one game has two teachers, the others have a second one without weight.
  while (weights.length && !weights.at(-1)) weights.pop();
  return weights.length && game.teacher !== null ? `; teacher's weight ${weights.map(figure).join(" and ")}` : "";
}

/** After the token has been taken or refused. */
export function accessChanged() {
  for (const row of rows.values()) row.lock();
}

class Row {
  constructor(name, index) {
    this.name = name;
    this.pending = null;
    this.fill = make("div", "fill");
    this.track = make("div", "track", { role: "img" }, this.fill, make("div", "mark"));
    this.share = make("strong");
    this.basis = make("p", "small");
    this.student = make("span");
    this.teacher = make("span");
    this.random = make("span");
    this.rate = make("span");
    this.rateNote = make("p", "small");
    this.kept = make("span");
    this.keptNote = make("p", "small");
    const cell = (className, ...children) => make("div", className, { role: "cell" }, ...children);
    const label = (text) => make("span", "cell-label", { "aria-hidden": "true" }, text);
    this.element = make(
      "div", "row", { role: "row" },
      make("div", "game", { role: "rowheader" }, make("span", `dot b${index % 7}`), title(name)),
      cell("toward", this.track, this.share, this.basis),
      cell("scores", label("Score"), this.student, make("p", "small pairs", {}, this.teacher, " ", this.random)),
      cell("right rate", label("Steps"), this.rate, this.rateNote),
      cell("right kept", label("Replay"), this.kept, this.keptNote),
      cell("manned", label("Actors"), this.buildActors(), this.note),
    );
  }

  buildActors() {
    this.live = make("span", "live");
    this.note = make("p", "actors-note", { role: "status" });
    this.fewer = make("button", "", { type: "button", "aria-label": `One actor less for ${title(this.name)}` }, "\u2212");
    this.more = make("button", "", { type: "button", "aria-label": `One actor more for ${title(this.name)}` }, "+");
    this.input = make("input", "", {
      type: "number", min: 0, max: MAX_ACTORS, step: 1, inputmode: "numeric",
      "aria-label": `Actors wanted for ${title(this.name)}`,
    });
    this.form = make("form", "actors", {}, this.live, this.fewer, this.input, this.more);
    this.fewer.addEventListener("click", () => this.nudge(-1));
    this.more.addEventListener("click", () => this.nudge(1));
    this.input.addEventListener("change", () => this.askSoon(SETTLE_MS));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.askSoon(0);
    });
    return this.form;
  }

  show(game, isOver) {
    this.game = game;
    this.isOver = isOver;
    this.showProgress(game);
    say(this.rate, isOver ? short(game.figures.steps) : `${figure(game.figures.steps_per_second)}/s`);
    say(this.rateNote, isOver ? "steps in all" : `${short(game.figures.steps)} steps`);
    say(this.kept, short(game.figures.replay_size));
    const capacity = game.figures.replay_capacity;
    say(this.keptNote, capacity ? `${percent(game.figures.replay_size / capacity)} full` : "");
    if (this.pending !== null && game.wanted === this.pending) this.pending = null;
    const isBusy = document.activeElement === this.input || this.timer;
    if (!isBusy && this.pending === null && game.wanted !== null) this.input.value = game.wanted;
    this.lock();
    this.showActors(game);
  }

  showProgress(game) {
    const isTest = Number.isFinite(game.test?.normalized);
    const share = isTest ? game.test.normalized : game.normalized_return;
    this.fill.style.width = `${100 * Math.min(1, Math.max(0, (share ?? 0) / TRACK_END))}%`;
    this.fill.hidden = !Number.isFinite(share);
    this.fill.classList.toggle("training", !isTest);
    say(this.share, percent(share));
    const goal = goalOf(game);
    this.track.setAttribute("aria-label", `${title(game.name)}: ${percent(share)} of the way to ${goal}`);
    const agreement = isTest && Number.isFinite(game.test.agreement)
      ? `, agrees in ${percent(game.test.agreement)} of states` : "";
    const basis = isTest ? `last test${agreement}` : Number.isFinite(share) ? "training episodes" : "no episode has ended yet";
    say(this.basis, `${basis}${weightsOf(game)}`);
    const shown = isTest ? game.test.mean : game.figures.return;
    const spread = isTest && Number.isFinite(game.test.std) ? ` \u00b1 ${score(game.test.std)}` : "";
    say(this.student, `${score(shown)}${spread}`);
    const best = Number.isFinite(game.best) ? `own best ${score(game.best)}, ` : "";
    say(this.teacher, goal === "the teacher" ? `teacher ${score(game.teacher)},` : `${best}human ${score(game.human)},`);
    say(this.random, `random ${score(game.random)}`);
  }

  showActors(game) {
    const live = game.live ?? NaN;
    const isSettled = game.live === game.wanted;
    const all = this.isOver ? `${count(live)} at the end` : `${count(live)} of ${count(game.wanted)} live`;
    say(this.live, isUnlocked() && !this.isOver ? `${count(live)} live` : all);
    const words = this.problem ?? game.refused ?? (
      game.waiting ? `${game.waiting} waiting for room`
        : this.pending !== null ? `asked for ${this.pending}`
          : !isSettled && !this.isOver && game.wanted !== null ? `${game.wanted} wanted` : "");
    say(this.note, words);
    this.note.classList.toggle("bad", Boolean(this.problem ?? game.refused));
  }

  lock() {
    const isOpen = isUnlocked() && !this.isOver;
    for (const part of [this.fewer, this.input, this.more]) part.hidden = !isOpen;
    this.form.classList.toggle("locked", !isOpen);
    if (this.game) this.showActors(this.game);
  }

  nudge(by) {
    const value = Math.min(MAX_ACTORS, Math.max(0, Number(this.input.value || 0) + by));
    this.input.value = value;
    this.askSoon(SETTLE_MS);
  }

  /** Several presses in a row are one wish. */
  askSoon(delay) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), delay);
  }

  async ask() {
    this.timer = 0;
    const number = this.input.valueAsNumber;
    if (!Number.isInteger(number) || number < 0 || number > MAX_ACTORS) {
      this.problem = `a whole number from 0 to ${MAX_ACTORS}`;
      return this.lock();
    }
    this.problem = null;
    if (number === this.pending || (this.pending === null && number === this.game.wanted)) return;
    this.pending = number;
    this.lock();
    try {
      await askForActors({ [this.name]: number });
    } catch (error) {
      this.problem = error.message;
      this.pending = null;
    }
    this.lock();
  }
}
