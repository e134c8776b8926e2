/* The text, the current step, and navigation. */

function writePrompt() {
  const { tokens, texts } = trace.prompt;
  tokens.forEach((token, index) => {
    by("prompt").append(isSpecial.has(token) ? make("span", "special", label(token)) : texts[index]);
  });
}

const pieces = frames.flatMap((frame, index) => frame.texts.map((text, at) => ({
  frame: index,
  text: isSpecial.has(frame.sampled[at]) ? label(frame.sampled[at]) : text,
  kind: `token ${at === frame.sampled.length - 1 ? "bonus" : "accepted"} ${isSpecial.has(frame.sampled[at]) ? "special" : ""}`,
})));
if (trace.rest) pieces.push({ frame: lastFrame, text: trace.rest, kind: "token" });

/** Writes the text up to the current step with few changes to the page. */
function showText() {
  const answer = by("answer");
  const held = answer.children;
  while (held.length && pieces[held.length - 1].frame > step) answer.lastChild.remove();
  while (held.length < pieces.length && pieces[held.length].frame <= step) {
    const { text, kind } = pieces[held.length];
    answer.append(make("span", kind, text));
  }
  for (const piece of answer.querySelectorAll(".now")) piece.classList.remove("now");
  for (let at = held.length - 1; at >= 0 && pieces[at].frame === step; at--) held[at].classList.add("now");
}

/** Announces the step for screen readers. */
function announce(frame) {
  const words = frame.sampled.slice(0, frame.emitted).map(label).join(" ");
  by("said").textContent = step === 0
    ? `Prompt read; first token: ${words}`
    : `Step ${step} of ${lastFrame}: ${frame.accepted} of ${frame.tokens.length - 1} drafted tokens accepted, `
      + `${frame.emitted} emitted: ${words}`;
}

/* Steps */

let step = -1;

/** Browsers limit changes of the address, so it changes only after the step has rested. */
const ADDRESS_MS = 350;
let address;

/** Shows a step, or the nearest one that exists. */
function go(to) {
  const wanted = Math.min(Math.max(Math.trunc(to), 0), lastFrame);
  if (Number.isNaN(wanted) || wanted === step) return;
  step = wanted;
  const frame = frames[step];
  showText();
  showFigures(frame);
  drawTree(frame);
  showRows();
  announce(frame);
  by("tree").setAttribute("aria-label", `Draft tree of step ${step}`);
  by("slider").value = step;
  by("slider").setAttribute("aria-valuetext", `step ${step} of ${lastFrame}`);
  by("number").value = step;
  for (const [id, off] of [["first", step === 0], ["previous", step === 0], ["next", step === lastFrame], ["last", step === lastFrame]]) {
    // Not `disabled`: that would take the focus from keyboard users at the last step.
    by(id).setAttribute("aria-disabled", String(off));
  }
  document.title = `Step ${step} of ${lastFrame} · Upcycle trace`;
  clearTimeout(address);
  address = setTimeout(() => history.replaceState(null, "", `#step=${step}`), ADDRESS_MS);
  if (step === lastFrame) play(false);
  // At the end, so that the layout is computed once.
  by("text").scrollTop = by("text").scrollHeight;
  by("tree").parentElement.scrollLeft = 0;
}

const PLAY_MS = 900;
let timer;

/** Starts or stops automatic stepping. */
function play(on) {
  clearInterval(timer);
  timer = undefined;
  if (on) {
    if (step === lastFrame) go(0);
    timer = setInterval(() => go(step + 1), PLAY_MS);
  }
  by("play").textContent = on ? "Pause" : "Play";
}

function fromHash() {
  const match = /^#step=(\d+)$/.exec(location.hash);
  return match ? Number(match[1]) : undefined;
}

const KEYS = {
  ArrowLeft: () => go(step - 1),
  ArrowRight: () => go(step + 1),
  Home: () => go(0),
  End: () => go(lastFrame),
  " ": () => play(!timer),
};

function listen() {
  by("first").addEventListener("click", KEYS.Home);
  by("previous").addEventListener("click", KEYS.ArrowLeft);
  by("next").addEventListener("click", KEYS.ArrowRight);
  by("last").addEventListener("click", KEYS.End);
  by("play").addEventListener("click", KEYS[" "]);
  by("slider").addEventListener("input", () => go(by("slider").valueAsNumber));
  by("number").addEventListener("change", () => {
    go(by("number").valueAsNumber);
    by("number").value = step;
  });
  window.addEventListener("hashchange", () => go(fromHash() ?? step));
  window.addEventListener("resize", sizeBars);
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || target.matches("input")) return;
    if (key === " " && target.matches("button")) return;
    if (!KEYS[key]) return;
    event.preventDefault();
    KEYS[key]();
  });
  listenToTree();
}

/* The number of emitted tokens of each step, above the slider */

function drawBars() {
  const most = Math.max(...frames.map((frame) => frame.emitted), 1);
  by("bars").setAttribute("viewBox", `0 0 ${Math.max(lastFrame, 1)} ${most}`);
  const bar = (index, from, to) => (to > from ? `M${index} ${most - from}V${most - to}` : "");
  const [bonus, accepted] = by("bars").children;
  bonus.setAttribute("d", frames.map((frame, index) => bar(index, frame.accepted, frame.emitted)).join(""));
  accepted.setAttribute("d", frames.map((frame, index) => bar(index, 0, frame.accepted)).join(""));
  sizeBars();
}

function sizeBars() {
  const room = by("bars").clientWidth / Math.max(lastFrame, 1);
  for (const path of by("bars").children) path.setAttribute("stroke-width", Math.min(12, Math.max(1, 0.72 * room)));
}

/* The page as a whole */

function start() {
  const { about, version, k, sources, finish } = trace;
  const emitted = frames[lastFrame].running;
  const mean = lastFrame ? ((emitted - frames[0].running) / lastFrame).toFixed(2) : "0";
  by("about").textContent = `${about.model} on ${about.backend}; drafter ${about.drafter}`
    + (about.learns === "nothing" ? "" : `, ${k} candidates per row`)
    + `; ${trace.greedy ? "greedy" : "sampled"}. ${emitted} tokens in ${lastFrame} steps, ${mean} per step; ended by ${finish}.`;
  by("version").textContent = `Upcycle ${version}`;
  by("slider").max = lastFrame;
  by("number").max = lastFrame;
  by("count").textContent = `of ${lastFrame}`;
  by("cut-key").hidden = frames.every((frame) => frame.emitted === frame.sampled.length);
  by("probability-key").hidden = trace.steps.every(({ probabilities }) => probabilities.slice(1).every((p) => p === null));
  by("sources").hidden = sources.length === 0;
  by("sources").append(...sources.map((name, source) => {
    const item = make("li");
    item.append(dot(source), name);
    return item;
  }));
  writePrompt();
  drawBars();
  listen();
  go(fromHash() ?? 0);
}

start();
