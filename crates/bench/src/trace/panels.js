/* The panels: a node, a step, and the rows that the drafter learned from. */

/** The rank of a node's token after its parent. */
function rankOf(tree, node) {
  const parent = tree.parents[node];
  const row = ranking(tree, parent);
  const rank = row.findIndex(({ token }) => token === tree.tokens[node]);
  const after = [label(tree.tokens[parent])];
  if (rank < 0) return sentence(`It is not among the model's ${row.length} best tokens after `, after, ".");
  if (rank === 0) return sentence("It is the model's first choice after ", after, ".");
  const below = (row[0].logit - row[rank].logit).toFixed(2);
  return sentence(`It is number ${rank + 1} in the model's ranking after `, after, `, ${below} below the first.`);
}

/** Why a node was accepted or rejected. */
function verdict(tree, node) {
  const name = (other) => [label(tree.tokens[other])];
  const parent = tree.parents[node];
  switch (tree.states[node]) {
    case "root":
      return sentence(step === 0
        ? "The last token of the prompt. Its row gives the first token of the answer."
        : "The last token before this step, and the root of the draft tree.");
    case "accepted":
      return sentence("Accepted: after ", name(parent), " the model chose this token.");
    case "bonus":
      return sentence("The bonus token: the model chose it after ", name(parent),
        tree.children[parent].length > 1 ? ", where it was not drafted. " : ", where nothing was drafted. ",
        step < lastFrame ? "It is the root of the next step." : "It is the last token.");
    case "cut":
      return sentence(`The model chose it too, but the text ended before it (${trace.finish}).`);
    default: {
      let top = node;
      while (!tree.pathIndex.has(tree.parents[top])) top = tree.parents[top];
      const above = tree.parents[top];
      const sampledToken = tree.frame.sampled[tree.pathIndex.get(above)];
      const facts = [" the model chose ", [label(sampledToken)], "."];
      return top === node
        ? sentence("Rejected: after ", name(above), ...facts)
        : sentence("Never reached: it follows ", name(top), ", but after ", name(above), ...facts);
    }
  }
}

/** One candidate. The width of its bar is its probability relative to the first. */
function candidateItem({ token, logit }, best, isSampled, isDrafted) {
  const item = make("li", `${isSampled ? "sampled" : ""} ${isDrafted ? "drafted" : ""}`);
  const weight = item.appendChild(make("span", "weight"));
  weight.style.width = `${Math.max(0.5, 100 * Math.exp(logit - best))}%`;
  item.append(make("span", "label", label(token)));
  if (isDrafted) item.append(make("span", "tag", "drafted"));
  item.append(make("span", "logit", logit.toFixed(2)));
  return item;
}

/** The details of a node. */
function nodeDetails(tree, node, route) {
  const shown = [make("h3", "", label(tree.tokens[node])), verdict(tree, node)];
  const { probabilities, sources } = tree.frame;
  const isDraft = node > 0 && node !== tree.bonus;
  if (isDraft && (probabilities[node] !== null || sources[node])) {
    const p = probabilities[node];
    const drafted = p === null ? "Drafted" : `Drafted with predicted probability ${p.toFixed(3)}`;
    shown.push(sentence(sources[node] ? `${drafted} by ${sourcesOf(sources[node]).join(", ")}.` : `${drafted}.`));
  }
  // In greedy decoding the verdict already says it.
  const isSampled = tree.pathIndex.has(node) || node === tree.bonus;
  if (node > 0 && !(trace.greedy && isSampled)) shown.push(rankOf(tree, node));
  const row = ranking(tree, node);
  if (!row.length) return shown;
  const sampledToken = choice(tree, node);
  const isDrafted = (token) => tree.children[node].some((child) => child !== tree.bonus && tree.tokens[child] === token);
  shown.push(sentence("The model's ranking after it, with logits:"));
  const list = make("ol");
  list.append(...row.map((one) => candidateItem(one, row[0].logit, one.token === sampledToken, isDrafted(one.token))));
  if (!row.some(({ token }) => token === sampledToken)) list.append(sentence("It chose ", [label(sampledToken)], ", which is not among these."));
  shown.push(list, routeSentence(tree, node, route));
  return shown;
}

/** The path of the model's choices. */
function routeSentence(tree, node, { nodes, token }) {
  const parts = nodes.flatMap((next, index) => [index ? " → " : "", [label(tree.tokens[next])]]);
  if (tree.pathIndex.has(node)) return sentence("From here the model went on: ", ...parts, ".");
  const way = trace.greedy ? "From here the model would go on: " : "From here the model's first choices are: ";
  return sentence(way, ...parts, nodes.length ? " → " : "", [label(token)], ", which is not in the tree.");
}

function time(seconds) {
  if (seconds < 1e-4) return `${Math.round(1e6 * seconds)} µs`;
  return seconds < 1 ? `${(1000 * seconds).toFixed(seconds < 0.01 ? 2 : seconds < 0.1 ? 1 : 0)} ms` : `${seconds.toFixed(2)} s`;
}

/** The numbers of a step. */
function showFigures(frame) {
  const parts = Object.entries(frame.seconds);
  const total = parts.reduce((sum, [, seconds]) => sum + seconds, 0);
  const figures = step === 0
    ? [["prompt tokens", trace.prompt.tokens.length], ["emitted", frame.emitted], ["time", time(total)]]
    : [
      ["drafted", frame.tokens.length - 1],
      ["accepted", frame.accepted],
      ["emitted", frame.emitted],
      ["tokens per step so far", ((frame.running - frames[0].running) / step).toFixed(2)],
      ["tokens so far", frame.running],
      ["time", time(total)],
    ];
  by("figures").replaceChildren(...figures.map(([name, value]) => {
    const pair = make("div");
    pair.append(make("dd", "", String(value)), make("dt", "", name));
    return pair;
  }));
  const bar = make("div", "bar");
  const list = make("ul");
  parts.forEach(([name, seconds], part) => {
    const share = bar.appendChild(make("i"));
    share.style.flex = `${seconds / total || 0} 0 0`;
    share.style.background = COLOURS[part];
    const item = list.appendChild(make("li"));
    item.append(dot(part), `${name} ${time(seconds)}`);
  });
  by("times").replaceChildren(...(step === 0 ? [] : [bar, list]));
}

const ROWS = {
  matrix: {
    title: "Rows written to the matrix",
    note: "Every scored row is stored, including those of rejected drafts: a token, then the model's best candidates "
      + "after it. Later drafts are looked up here.",
    prompt: "This drafter learns only from draft trees, so no row of the prompt is written.",
  },
  rows: {
    title: "Rows that the drafter learned from",
    note: "Every scored row, including those of rejected drafts: the tokens up to it, then the model's best "
      + "candidates after them.",
    prompt: "The rows of the prompt: the tokens up to each, then the model's best candidates after them.",
  },
  nothing: {
    title: "The model's ranking",
    note: "This drafter does not learn from rankings: everything except the chosen token is discarded.",
    prompt: "This drafter does not learn from rankings.",
  },
};

/** For each frame the rows that were written, in order of first appearance, each with its last content. */
const learned = frames.map((frame, index) => {
  const prompt = index === 0;
  const { k, prompt: { tokens, scored, ranked } } = trace;
  if (prompt && trace.about.learns !== "rows") return [];
  const perToken = trace.about.learns === "matrix";
  const source = prompt ? ranked : frame.ranked;
  const width = Math.min(source.width, trace.about.learns === "nothing" ? source.width : k);
  const rows = new Map();
  const write = (row, at, before) => {
    const token = prompt ? tokens[at] : frame.tokens[at];
    const key = perToken ? token : row;
    const times = (rows.get(key)?.times ?? 0) + 1;
    rows.set(key, {
      token,
      before,
      times,
      lit: !prompt && frame.path.includes(at),
      ids: source.ids.slice(row * source.width, row * source.width + width),
    });
  };
  if (prompt) {
    scored.forEach((at, row) => write(row, at, at > 0 ? tokens[at - 1] : undefined));
    return [...rows.values()];
  }
  frame.tokens.forEach((_, at) => write(at, at, at > 0 ? frame.tokens[frame.parents[at]] : undefined));
  // The accepted path is written again, so that a token that occurs twice keeps the row of the path.
  if (perToken) {
    const times = new Map([...rows].map(([key, row]) => [key, row.times]));
    frame.path.forEach((at) => write(at, at));
    for (const [key, row] of rows) row.times = times.get(key);
  }
  return [...rows.values()];
});

/** The previous content of each matrix row, as far as this trace shows it. */
if (trace.about.learns === "matrix") {
  const held = new Map();
  for (const row of learned.flat()) {
    row.previous = held.get(row.token);
    held.set(row.token, row.ids);
  }
}

/** The rows of a step. */
function showRows() {
  const rows = learned[step];
  const { title, note, prompt } = ROWS[trace.about.learns];
  by("rows-title").textContent = title;
  let said = step === 0 ? prompt : note;
  if (trace.about.learns === "matrix" && rows.length) {
    const added = rows.filter(({ previous }) => !previous).length;
    const same = rows.filter(({ ids, previous }) => previous && ids.join() === previous.join()).length;
    said += ` ${rows.length} rows: ${added} for the first time in this text, ${rows.length - added - same} changed `
      + `(new candidates are highlighted), ${same} unchanged.`;
  }
  by("rows-note").textContent = said;
  by("rows").replaceChildren(...rows.map(({ token, before, times, lit, ids, previous }) => {
    const item = make("li", lit ? "lit" : "");
    const of = item.appendChild(make("span", "of"));
    if (before !== undefined && trace.about.learns === "rows") of.append(make("small", "", label(before)), "\u200b");
    of.append(label(token));
    if (times > 1) of.append(make("small", "", ` ×${times}`));
    const row = item.appendChild(make("span", "row"));
    row.append(...ids.map((id) => make("span", previous && !previous.includes(id) ? "new" : "", label(id))));
    return item;
  }));
}
