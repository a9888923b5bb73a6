// The members of a population: how they score, what they are tuned to, where the best one comes from.

import { byId, make, say } from "./dom.js";
import { count } from "./format.js";

let shown = "";

/** Show the population that the run is, or belongs to; nothing for a run by itself. */
export function showPopulation(population) {
  const card = byId("population");
  card.hidden = !population;
  const text = JSON.stringify(population ?? null);
  if (!population || text === shown) return;
  shown = text;
  say(byId("population-name"), `of ${population.name}`);
  const names = population.tuned.map((name) => name.split(".").pop().replaceAll("_", " "));
  const head = ["member", "score", "compared", "copies", ...names];
  byId("members").replaceChildren(
    make("thead", "", {}, make("tr", "", {}, ...head.map((name) => make("th", "", { scope: "col" }, name)))),
    make("tbody", "", {}, ...population.members.map((member) => row(member, population.tuned))),
  );
  const line = population.line.map(({ member, steps }) => `member ${member} from step ${count(steps)}`);
  say(byId("line"), `The best one's ancestors: ${line.join(" \u2192 ")}`);
}

function row(member, tuned) {
  const values = tuned.map((name) => member.settings[name]?.toPrecision(3) ?? "-");
  const cells = [member.score?.toPrecision(3) ?? "-", member.comparisons, member.copies, ...values];
  const name = `${member.member}${member.is_best ? " (best)" : ""}`;
  return make("tr", "", {}, make("th", "", { scope: "row" }, name), ...cells.map((cell) => make("td", "", {}, String(cell))));
}
