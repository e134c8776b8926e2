/* The draft tree: nodes are buttons, drawn over the edges. */

const NODE_HEIGHT = 24;
/** The distance of rows; the dots of several sources need space. */
const ROW = trace.sources.length ? 33 : 29;
const GAP = 34;
const LABEL_MOST = 132;
const pen = document.createElement("canvas").getContext("2d");
const mono = getComputedStyle(document.documentElement).getPropertyValue("--mono");
const measured = new Map();

function widthOf(text, font) {
  const key = font + text;
  if (!measured.has(key)) {
    pen.font = `${font} ${mono}`;
    measured.set(key, Math.ceil(pen.measureText(text).width));
  }
  return measured.get(key);
}

const probabilityText = (p) => (p >= 0.995 ? "1.0" : p < 0.005 ? "<.01" : p.toFixed(2).slice(1));
const sourcesOf = (bits) => trace.sources.filter((_, source) => (bits >> source) & 1);

function dots(bits) {
  const shown = make("span", "dots");
  trace.sources.forEach((_, source) => { if ((bits >> source) & 1) shown.append(dot(source)); });
  return shown;
}

const STATES = {
  root: "last token so far",
  accepted: "accepted",
  rejected: "rejected",
  bonus: "bonus token",
  cut: "after the end of the text",
};

let current;

function drawTree(frame) {
  const tree = treeOf(frame);
  const probabilities = tree.tokens.map((_, node) => (node > 0 && node !== tree.bonus ? frame.probabilities[node] : null));
  const widths = tree.tokens.map((token, node) => {
    const text = Math.min(LABEL_MOST, widthOf(label(token), "700 13px"));
    const least = 16 + 8 * sourcesOf(frame.sources[node] ?? 0).length;
    return Math.max(least, text + 20 + (probabilities[node] === null ? 0 : 6 + widthOf(probabilityText(probabilities[node]), "10.5px")));
  });
  const rows = placeRows(tree.children);
  const { lefts, width } = placeColumns(tree.depths, widths, GAP);
  const buttons = tree.tokens.map((token, node) => {
    const button = make("button", tree.states[node]);
    button.type = "button";
    button.tabIndex = -1;
    button.dataset.node = node;
    button.style.left = `${lefts[node]}px`;
    button.style.top = `${rows[node] * ROW}px`;
    button.style.width = `${widths[node]}px`;
    button.append(make("span", "label", label(token)));
    let said = `${label(token)}: ${STATES[tree.states[node]]}`;
    if (probabilities[node] !== null) {
      button.append(make("small", "", probabilityText(probabilities[node])));
      said += `, probability ${probabilities[node].toFixed(2)}`;
    }
    if (frame.sources[node]) button.append(dots(frame.sources[node]));
    if (node > 0) said += `, after ${label(tree.tokens[tree.parents[node]])}`;
    button.setAttribute("aria-label", said);
    return button;
  });
  Object.assign(tree, { lefts, rows, widths, buttons });
  const hadFocus = by("tree").contains(document.activeElement);
  const picture = by("tree").querySelector("svg");
  by("tree").replaceChildren(picture, ...buttons);
  by("tree").style.width = `${width}px`;
  by("tree").style.height = `${Math.max(...rows) * ROW + NODE_HEIGHT}px`;
  const edge = { rejected: [], accepted: [], bonus: [], cut: [] };
  tree.tokens.forEach((_, node) => { if (node > 0) edge[tree.states[node]].push(node); });
  const [plain, lit, bonus] = picture.children;
  plain.setAttribute("d", edges(tree, [...edge.rejected, ...edge.cut]));
  lit.setAttribute("d", edges(tree, edge.accepted));
  bonus.setAttribute("d", edges(tree, edge.bonus));
  current = tree;
  // Select the last emitted node: it shows most about a step.
  select(frame.path[Math.min(frame.emitted, frame.path.length - 1)]);
  if (hadFocus) buttons[selected].focus();
}

/** The edges from their parents to these nodes, as path data. */
function edges(tree, nodes) {
  return nodes.map((node) => {
    const parent = tree.parents[node];
    const [x1, y1] = [tree.lefts[parent] + tree.widths[parent], tree.rows[parent] * ROW + NODE_HEIGHT / 2];
    const [x2, y2] = [tree.lefts[node], tree.rows[node] * ROW + NODE_HEIGHT / 2];
    const bend = x2 - GAP / 2;
    return `M${x1} ${y1}H${x2 - GAP}C${bend} ${y1} ${bend} ${y2} ${x2} ${y2}`;
  }).join("");
}

let selected = 0;
/** The node in the panel: the selected one or the one under the pointer. */
let shown = 0;

/** Selects a node until another is selected or the step changes. */
function select(node) {
  current.buttons[selected]?.setAttribute("tabindex", "-1");
  selected = node;
  current.buttons[node].tabIndex = 0;
  showNode(node);
}

/** Shows the details of a node and the path of the model's choices from it. */
function showNode(node) {
  shown = node;
  current.buttons.forEach((button, other) => button.classList.toggle("chosen", other === node));
  const route = node === current.bonus ? { nodes: [] } : routeFrom(current, node);
  // The accepted path is already highlighted.
  by("tree").querySelector(".route").setAttribute("d", edges(current, current.pathIndex.has(node) ? [] : route.nodes));
  by("node").replaceChildren(...nodeDetails(current, node, route));
}

/** The nodes in depth-first order. */
function readingOrder(tree) {
  const order = [];
  const open = [0];
  while (open.length) {
    const node = open.pop();
    order.push(node);
    open.push(...[...tree.children[node]].reverse());
  }
  return order;
}

function listenToTree() {
  const nodeAt = (event) => event.target.closest("button")?.dataset.node;
  // Not `pointerover`: it also fires when the tree scrolls under a resting pointer, for example after a key press, and
  // would take the panel from the focused node.
  by("tree").addEventListener("pointermove", (event) => {
    const node = nodeAt(event);
    if (node && Number(node) !== shown) showNode(Number(node));
  });
  by("tree").addEventListener("pointerleave", () => showNode(selected));
  by("tree").addEventListener("click", (event) => { if (nodeAt(event)) select(Number(nodeAt(event))); });
  by("tree").addEventListener("focusin", (event) => { if (nodeAt(event)) select(Number(nodeAt(event))); });
  by("tree").addEventListener("keydown", (event) => {
    const way = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!way || !nodeAt(event)) return;
    event.preventDefault();
    const order = readingOrder(current);
    current.buttons[order[order.indexOf(selected) + way]]?.focus();
  });
}
