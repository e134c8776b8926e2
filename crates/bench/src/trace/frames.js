/* The trace as it stands in the page, step by step. */

const trace = JSON.parse(document.getElementById("trace").textContent);
const label = (token) => trace.labels[token] ?? `#${token}`;
const isSpecial = new Set(trace.specials);

/** The prompt as a step of its own: its last token is the root, and nothing is drafted. */
function promptFrame({ tokens, scored, ranked, drawn, text, seconds }) {
  const last = tokens.length - 1;
  const known = scored[scored.length - 1] === last;
  const row = (scored.length - 1) * ranked.width;
  return {
    tokens: [tokens[last]],
    parents: [0],
    chances: [1],
    sources: [],
    ranked: { width: known ? ranked.width : 0, ids: ranked.ids.slice(row), logits: ranked.logits.slice(row) },
    path: [0],
    drawn: drawn === null ? [] : [drawn],
    emitted: drawn === null ? 0 : 1,
    texts: drawn === null ? [] : [text],
    seconds: { prefill: seconds },
  };
}

const frames = [promptFrame(trace.prompt), ...trace.steps];
const lastFrame = frames.length - 1;
let running = 0;
for (const frame of frames) {
  frame.accepted = Math.min(frame.emitted, Math.max(0, frame.drawn.length - 1));
  running += frame.emitted;
  frame.running = running;
}

/** The tree of a frame with the model's own draw as its last node. */
function treeOf(frame) {
  const { tokens, parents, path, drawn, emitted } = frame;
  const children = tokens.map(() => []);
  const depths = [0];
  const states = ["root"];
  const walk = new Map(path.map((node, index) => [node, index]));
  for (let node = 1; node < tokens.length; node++) {
    children[parents[node]].push(node);
    depths[node] = depths[parents[node]] + 1;
    states[node] = !walk.has(node) ? "rejected" : walk.get(node) <= emitted ? "accepted" : "cut";
  }
  const tree = { frame, children, depths, states, walk, tokens: [...tokens], parents: [...parents], own: -1 };
  if (drawn.length === path.length) {
    tree.own = tokens.length;
    const parent = path[path.length - 1];
    children[parent].push(tree.own);
    children.push([]);
    tree.tokens.push(drawn[drawn.length - 1]);
    tree.parents.push(parent);
    depths.push(depths[parent] + 1);
    states.push(emitted === drawn.length ? "own" : "cut");
  }
  // What was drawn stands first, so that the lit path is the top line of the picture; the others keep their order.
  const isDrawn = (node) => node === tree.own || walk.has(node);
  for (const kids of children) kids.sort((a, b) => isDrawn(b) - isDrawn(a));
  return tree;
}

/** What the model ranked after a node, best first. */
function ranking(tree, node) {
  const { width, ids, logits } = tree.frame.ranked;
  if (node === tree.own) return [];
  const row = [];
  for (let at = node * width; at < (node + 1) * width; at++) row.push({ token: ids[at], logit: logits[at] });
  return row;
}

/** The token that the model itself puts after a node: what it drew, else its first choice. */
function choice(tree, node) {
  return tree.walk.has(node) ? tree.frame.drawn[tree.walk.get(node)] : ranking(tree, node)[0]?.token;
}

/** Where the model's own choices lead from a node: the nodes of the tree, then the token that it does not hold. */
function routeFrom(tree, node) {
  const nodes = [];
  for (;;) {
    const token = choice(tree, node);
    const next = tree.children[node].find((child) => tree.tokens[child] === token);
    if (next === undefined) return { nodes, token };
    nodes.push(next);
    if (next === tree.own) return { nodes, token: undefined };
    node = next;
  }
}
