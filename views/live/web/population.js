// The members of a population: how they score, what they are tuned to, where the best one comes from.

import { byId, make, say } from "./dom.js";
import { count, figure } from "./format.js";

let shown = "";

/** Show the population that the run is, or belongs to; nothing for a run by itself. */
export function showPopulation(population) {
  const card = byId("population");
  card.hidden = !population;
  const text = JSON.stringify(population ?? null);
  if (!population || text === shown) return;
  shown = text;
  say(byId("population-name"), `of ${population.name}`);
  const names = population.tuned.map(settingName);
  const head = ["member", "score", "compared", "copies", ...names];
  byId("members").replaceChildren(
    make("thead", "", {}, make("tr", "", {}, ...head.map((name) => make("th", "", { scope: "col" }, name)))),
    make("tbody", "", {}, ...population.members.map((member) => row(member, population.tuned))),
  );
  const line = population.line.map(({ member, steps }) => `member ${member} from step ${count(steps)}`);
  say(byId("line"), `The best one's ancestors: ${line.join(" \u2192 ")}`);
}

function row(member, tuned) {
  const values = tuned.map((name) => settingValue(member.settings[name]));
  const cells = [member.score === null ? "-" : figure(member.score), member.comparisons, member.copies, ...values];
  const name = `${member.member}${member.is_best ? " (best)" : ""}`;
  return make("tr", "", {}, make("th", "", { scope: "row" }, name), ...cells.map((cell) => make("td", "", {}, String(cell))));
}

/** "learning rate" of learner.learning_rate; "distillation weight", as many settings are a weight. */
function settingName(path) {
  const [group, last] = path.split(".").slice(-2);
  return (last.includes("_") ? last : `${group} ${last}`).replaceAll("_", " ");
}

function settingValue(value) {
  if (value === undefined) return "-";
  return Math.abs(value) < 0.001 ? value.toExponential(1) : value.toPrecision(3);
}
