// Making and changing elements. Text is always text: nothing here turns strings into markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element with a class, attributes and children (elements or text). */
export function make(tag, className = "", attributes = {}, ...children) {
  return fill(document.createElement(tag), className, attributes, children);
}

/** The same for a drawing. */
export function draw(tag, className = "", attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), className, attributes, children);
}

function fill(element, className, attributes, children) {
  if (className) element.setAttribute("class", className);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set text only where it differs, so that a selection in it survives. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
