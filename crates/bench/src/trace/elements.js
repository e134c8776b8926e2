/* Elements. Text of prompts and models is inserted as text, never as markup. */

/** Colours of sources and time parts, distinguishable in light and dark and by most colour-blind readers. */
const COLOURS = ["#0072b2", "#e08a00", "#009e73", "#c4649a", "#56a9d9", "#d55e00", "#8f8400", "#7d7d7d"];

const by = (id) => document.getElementById(id);

function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A paragraph of words and tokens; a token is written `[label]`. */
function sentence(...parts) {
  const paragraph = make("p");
  for (const part of parts) {
    paragraph.append(Array.isArray(part) ? make("code", "", part[0]) : part);
  }
  return paragraph;
}

function dot(colour) {
  const shown = make("i", "dot");
  shown.style.background = COLOURS[colour % COLOURS.length];
  return shown;
}
