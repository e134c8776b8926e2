/* The frames of the page: the prompt and each step. */

const trace = JSON.parse(document.getElementById("trace").textContent);
const label = (token) => trace.labels[token] ?? `#${token}`;
const isSpecial = new Set(trace.specials);

/** The prompt as a step of its own: its last token is the root, and nothing is drafted. */
function promptFrame({ tokens, scored, ranked, sampled, text, seconds }) {
  const last = tokens.length - 1;
  const known = scored[scored.length - 1] === last;
  const row = (scored.length - 1) * ranked.width;
  return {
    tokens: [tokens[last]],
    parents: [0],
    probabilities: [1],
    sources: [],
    ranked: { width: known ? ranked.width : 0, ids: ranked.ids.slice(row), logits: ranked.logits.slice(row) },
    path: [0],
    sampled: sampled === null ? [] : [sampled],
    emitted: sampled === null ? 0 : 1,
    texts: sampled === null ? [] : [text],
    seconds: { prefill: seconds },
  };
}

const frames = [promptFrame(trace.prompt), ...trace.steps];
const lastFrame = frames.length - 1;
let running = 0;
for (const frame of frames) {
  frame.accepted = Math.min(frame.emitted, Math.max(0, frame.sampled.length - 1));
  running += frame.emitted;
  frame.running = running;
}

/** The tree of a frame, with the bonus token as its last node. */
function treeOf(frame) {
  const { tokens, parents, path, sampled, emitted } = frame;
  const children = tokens.map(() => []);
  const depths = [0];
  const states = ["root"];
  const pathIndex = new Map(path.map((node, index) => [node, index]));
  for (let node = 1; node < tokens.length; node++) {
    children[parents[node]].push(node);
    depths[node] = depths[parents[node]] + 1;
    states[node] = !pathIndex.has(node) ? "rejected" : pathIndex.get(node) <= emitted ? "accepted" : "cut";
  }
  const tree = { frame, children, depths, states, pathIndex, tokens: [...tokens], parents: [...parents], bonus: -1 };
  if (sampled.length === path.length) {
    tree.bonus = tokens.length;
    const parent = path[path.length - 1];
    children[parent].push(tree.bonus);
    children.push([]);
    tree.tokens.push(sampled[sampled.length - 1]);
    tree.parents.push(parent);
    depths.push(depths[parent] + 1);
    states.push(emitted === sampled.length ? "bonus" : "cut");
  }
  // Sampled tokens come first, so that the accepted path is the top line of the picture. The others keep their order.
  const isSampled = (node) => node === tree.bonus || pathIndex.has(node);
  for (const kids of children) kids.sort((a, b) => isSampled(b) - isSampled(a));
  return tree;
}

/** The model's ranking after a node, best first. */
function ranking(tree, node) {
  const { width, ids, logits } = tree.frame.ranked;
  if (node === tree.bonus) return [];
  const row = [];
  for (let at = node * width; at < (node + 1) * width; at++) row.push({ token: ids[at], logit: logits[at] });
  return row;
}

/** The token that the model chose after a node: the sampled one, else the best ranked. */
function choice(tree, node) {
  return tree.pathIndex.has(node) ? tree.frame.sampled[tree.pathIndex.get(node)] : ranking(tree, node)[0]?.token;
}

/** The path of the model's choices from a node: nodes of the tree, then a token that is not in the tree. */
function routeFrom(tree, node) {
  const nodes = [];
  for (;;) {
    const token = choice(tree, node);
    const next = tree.children[node].find((child) => tree.tokens[child] === token);
    if (next === undefined) return { nodes, token };
    nodes.push(next);
    if (next === tree.bonus) return { nodes, token: undefined };
    node = next;
  }
}
