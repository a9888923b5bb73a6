// The student at play: pictures while this tab is seen and the game is on the screen.

import { byId, make, say } from "./dom.js";
import { count, percent, score, title } from "./format.js";

const canvas = byId("screen");
const facts = new Map();
let stream = null;
let playing = "";
let isPaused = false;
let actions = [];

/** Offer these games. */
export function offerGames(games) {
  const pick = byId("pick");
  if (pick.options.length === games.length) return;
  pick.replaceChildren(...games.map((game) => make("option", "", { value: game.name }, title(game.name))));
  follow();
}

export function startPlayer() {
  for (const name of ["Score", "Step", "Weights"]) {
    const value = make("dd", "", {}, "\u2013");
    facts.set(name, value);
    byId("facts").append(make("div", "", {}, make("dt", "", {}, name), value));
  }
  byId("pick").addEventListener("change", follow);
  byId("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    say(byId("pause"), isPaused ? "Play" : "Pause");
    follow();
  });
  document.addEventListener("visibilitychange", follow);
  new IntersectionObserver(follow).observe(canvas);
}

/** Open or close the stream, as what is seen asks for. */
function follow() {
  const game = byId("pick").value;
  const wanted = game && isInView() && !isPaused && !document.hidden ? game : "";
  if (wanted === playing && (!wanted || stream)) return;
  stream?.close();
  stream = null;
  playing = wanted;
  if (!wanted) return;
  note("Starting: the first time takes a few seconds.");
  const opened = new EventSource(`/api/play?game=${encodeURIComponent(wanted)}`);
  opened.addEventListener("picture", (event) => show(JSON.parse(event.data), opened));
  opened.addEventListener("note", (event) => note(JSON.parse(event.data).text));
  opened.addEventListener("error", () => {
    if (opened.readyState !== EventSource.CLOSED || opened !== stream) return;
    note("The student cannot be shown now; trying again.");
    stream = null;
    setTimeout(follow, 5000);
  });
  stream = opened;
}

/** Asked for anew each time: the page grows while it is filled, and nobody is told in between. */
function isInView() {
  const box = canvas.getBoundingClientRect();
  return box.bottom > 0 && box.top < innerHeight;
}

async function show(picture, from) {
  if (from !== stream) return;
  const data = Uint8Array.from(atob(picture.png), (character) => character.charCodeAt(0));
  const image = await createImageBitmap(new Blob([data], { type: "image/png" }));
  if (from !== stream) return image.close();
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width;
    canvas.height = image.height;
  }
  canvas.getContext("2d").drawImage(image, 0, 0);
  image.close();
  note("");
  say(facts.get("Score"), score(picture.score));
  say(facts.get("Step"), count(picture.step));
  say(facts.get("Weights"), picture.updates === null ? "saved" : `update ${count(picture.updates)}`);
  byId("teacher-key").hidden = !picture.policies.teacher;
  showActions(picture);
}

function showActions(picture) {
  if (actions.length !== picture.actions.length || actions.some((row, i) => row.label !== picture.actions[i])) {
    actions = picture.actions.map(buildAction);
    byId("actions").replaceChildren(...actions.map((row) => row.element));
  }
  actions.forEach((row, i) => {
    for (const who of ["student", "teacher"]) {
      const share = picture.policies[who]?.[i] ?? 0;
      row[who].style.width = `${100 * share}%`;
    }
    say(row.share, percent(picture.policies.student[i]));
    say(row.mark, i === picture.played ? "\u25b8" : "");
    row.element.classList.toggle("played", i === picture.played);
  });
}

function buildAction(label) {
  const mark = make("span", "", { "aria-hidden": "true" });
  const student = make("div", "student");
  const teacher = make("div", "teacher");
  const share = make("span", "share");
  const element = make(
    "div", "action", {}, mark, make("span", "name", {}, label), make("div", "pair", {}, student, teacher), share,
  );
  return { label, element, mark, student, teacher, share };
}

const note = (text) => say(byId("screen-note"), text);
