// Elements are built here and nowhere else. What is text stays text: no string is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `props`: attributes; `class`; `style` as an object; `on…` functions; null and false are left out. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element, as `h`. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Put `children` (nodes, text, numbers, lists of them; null is left out) in the place of what `element` holds. */
export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Text for screen readers alone. */
export function hidden(text) {
  return h("span", { class: "sr" }, text);
}

/** Set the text of `element`, only when it differs, so that nothing is announced or painted twice. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The value of a CSS variable as it is now, for what is painted on a canvas. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "#888";
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") element.addEventListener(name.slice(2).toLowerCase(), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}
