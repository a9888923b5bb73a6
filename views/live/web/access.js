// The token that changes need: from the address's fragment, or typed in. Kept for this tab alone.

import { byId, say } from "./dom.js";

const HEADER = "X-Actor-Mimic-Token";
const PLACE = "actor-mimic-token";

let token = "";
let isWritable = null; // Until the server has said.
let tell = () => {};

/** Whether this page may change the run. */
export const isUnlocked = () => isWritable && token !== "";

/** `changed` is called whenever that may have changed. */
export function startAccess(changed) {
  tell = changed;
  byId("access").addEventListener("submit", (event) => {
    event.preventDefault();
    unlock(byId("token").value.trim());
  });
  const fragment = new URLSearchParams(location.hash.slice(1)).get("token");
  if (fragment) {
    // Not in the history, where the next user of this browser could read it.
    history.replaceState(null, "", location.pathname);
    unlock(fragment);
  } else if (stored()) {
    unlock(stored());
  }
}

/** What the server says: whether it takes changes at all. */
export function setWritable(writable) {
  if (writable !== isWritable) {
    isWritable = writable;
    show("");
  }
}

/** Ask for other numbers of actors; an Error with a sentence if that is refused. */
export async function askForActors(wanted) {
  await post("/api/wanted", wanted, token);
}

async function unlock(given) {
  try {
    await post("/api/token", {}, given);
    token = given;
    remember(given);
    const wasTyped = document.activeElement && byId("access").contains(document.activeElement);
    byId("token").value = "";
    show("");
    if (wasTyped) byId("games").focus(); // Where the controls have appeared.
  } catch (error) {
    token = "";
    remember("");
    show(error.message);
  }
}

async function post(path, body, withToken) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", [HEADER]: withToken },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("the page's server does not answer");
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Error(answer.error ?? `refused (${response.status})`);
  }
}

function show(problem) {
  const isAsking = isWritable && !isUnlocked();
  byId("access").hidden = !isAsking;
  const words = isUnlocked() ? "Unlocked: actors can be changed" : isWritable ? "" : "Read-only";
  say(byId("access-note"), problem || words);
  tell();
}

function stored() {
  try {
    return sessionStorage.getItem(PLACE) ?? "";
  } catch {
    return ""; // Storage is switched off.
  }
}

function remember(value) {
  try {
    if (value) sessionStorage.setItem(PLACE, value);
    else sessionStorage.removeItem(PLACE);
  } catch {
    // Then it is asked for again after a reload.
  }
}
