// The page: a conversation, several runs beside each other, and an address that brings all of it back.

import { UNLIMITED, count, freshRun, fromLink, toLink } from "./link.js";
import { Document } from "./markdown.js";
import { plot } from "./plot.js";
import { Run } from "./run.js";
import * as settings from "./settings.js";
import { copyFrom } from "./snippets.js";

const MOST_RUNS = 8;
const MOST_DRAWS = 16;
const EXAMPLES = [
  "How many r's are in raspberry?",
  "A bat and a ball cost $1.10 together. The bat costs a dollar more than the ball. What does the ball cost?",
  "What is the largest prime factor of 1001?",
];
const id = (name) => document.getElementById(name);
const template = id("run-template");
const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
let runs = [];
let turns = []; // earlier questions and answers: [{ question, answer }]
let controller = null;

const page = {
  context: 4096,
  model: "",
  isPlain: settings.isPlain(),
  // The number of tokens that a full-width meter stands for.
  scale: () => Math.max(...runs.map((run) => Math.max(run.setting.max, run.shown.tokens.thinking, run.setting.min)), 1),
  hasKey: () => Boolean(id("key").value),
  changed: () => {
    history.replaceState(null, "", toLink(state()));
    page.drawAll();
  },
  drawAll: () => runs.forEach((run) => run.draw()),
  finished: () => plot(id("plot"), runs),
  remove: (run) => {
    if (runs.length === 1) return;
    setRuns(runs.filter((other) => other !== run));
    page.changed();
    page.finished();
  },
  // Asks on: the question and the answer of this run become an earlier turn.
  follow: (run) => {
    const question = run.asked.messages.at(-1).content;
    setTurns([...turns, { question, answer: run.shown.text.answer.trim() }]);
    id("question").value = "";
    unfold();
    page.changed();
    id("turns").lastElementChild.scrollIntoView({ block: "start", behavior: isCalm ? "auto" : "smooth" });
    id("question").focus({ preventScroll: true });
  },
};

const state = () => ({
  turns,
  question: id("question").value,
  system: id("system").value,
  temperature: id("temperature").value,
  seed: id("seed").value,
  answer: count(id("answer").value),
  draws: Math.min(Math.max(count(id("draws").value), 1), MOST_DRAWS),
  runs: runs.map((run) => run.setting),
});

// What all runs ask alike. What is not set is left to the model's own defaults.
function common() {
  const { question, system, temperature, seed, answer, draws } = state();
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const turn of turns) messages.push({ role: "user", content: turn.question }, { role: "assistant", content: turn.answer });
  messages.push({ role: "user", content: question });
  const asked = page.model ? { model: page.model, messages } : { messages };
  if (temperature !== "") asked.temperature = Number(temperature);
  if (seed !== "") asked.seed = Math.trunc(Number(seed));
  if (answer) asked.answer_tokens = answer;
  if (draws > 1) asked.n = draws;
  return asked;
}

function setRuns(wanted) {
  runs = wanted;
  id("runs").replaceChildren(...runs.map((run) => run.element));
  id("runs").dataset.count = runs.length;
  id("add").hidden = runs.length >= MOST_RUNS;
  page.drawAll();
}

function setTurns(wanted) {
  turns = wanted;
  id("conversation").hidden = !turns.length;
  id("question").placeholder = turns.length ? "Ask on …" : "Ask something that takes thought …";
  const made = turns.map((turn) => {
    const item = document.createElement("li");
    for (const part of ["question", "answer"]) {
      const text = document.createElement("div");
      text.className = part;
      new Document(text).show(turn[part], page.isPlain || part === "question");
      item.append(text);
    }
    return item;
  });
  id("turns").replaceChildren(...made);
  id("examples").hidden = turns.length > 0;
}

const makeRun = (setting) => new Run(template, setting, page);

function show(found) {
  for (const name of ["question", "system", "temperature", "seed"]) id(name).value = found[name];
  id("answer").value = found.answer || "";
  id("draws").value = found.draws;
  const isSet = found.system || found.temperature !== "" || found.seed !== "" || found.answer || found.draws > 1;
  if (isSet) document.querySelector(".more").open = true; // What holds for the runs is seen.
  setTurns(found.turns);
  runs = [];
  setRuns(found.runs.map(makeRun));
  page.finished();
}

// A page can be scrolled to the runs only once they are long enough, and no further than the reader wants.
let hasMoved = false;
for (const kind of ["wheel", "touchmove", "keydown", "pointerdown"]) addEventListener(kind, () => (hasMoved = true), { passive: true });

function showRuns() {
  const { top, bottom } = id("runs").getBoundingClientRect();
  if (hasMoved || top < 1 || bottom <= innerHeight) return;
  id("runs").scrollIntoView({ block: "start", behavior: isCalm ? "auto" : "smooth" });
}

async function start() {
  if (!id("question").value.trim()) return id("question").focus();
  controller?.abort();
  controller = new AbortController();
  const mine = controller;
  setBusy(true);
  fold();
  id("news").textContent = runs.length === 1 ? "Running" : `Running ${runs.length} runs`;
  const asked = common();
  const works = runs.map((run) => run.start(asked, id("key").value, mine.signal));
  page.finished();
  hasMoved = false;
  showRuns();
  const growth = new ResizeObserver(showRuns);
  runs.forEach((run) => growth.observe(run.element));
  const outcomes = await Promise.allSettled(works);
  growth.disconnect();
  if (controller !== mine) return;
  setBusy(false);
  const said = outcomes.map((o, i) => `Run ${i + 1}: ${o.status === "fulfilled" ? o.value : o.reason.message}`);
  id("news").textContent = `Done. ${said.map((text) => text.replace(/[.]?$/, ".")).join(" ")}`;
  // No connection, no key, another model: the server may not be what it was.
  if (outcomes.some(({ reason }) => [0, 401, 404].includes(reason?.status))) connect();
}

// The question takes little room while there are runs to be read.
function fold() {
  document.body.classList.add("folded");
  if (document.activeElement === id("question")) id("question").blur();
  id("question").scrollTop = 0;
}

function unfold() {
  document.body.classList.remove("folded");
}

function setBusy(isBusy) {
  id("stop").hidden = !isBusy;
  id("run").disabled = isBusy;
}

function stop() {
  controller?.abort();
}

function askForKey() {
  id("key").placeholder = "needed";
  document.querySelector(".more").open = true;
  id("key").focus();
}

function compare(wanted) {
  setRuns(wanted.map(makeRun));
  page.changed();
  if (id("question").value.trim()) start();
}

// Budgets from none to all, as far as the context reaches.
function budgets() {
  const most = Math.min(page.context / 4, 4096);
  const steps = [0, most / 8, most / 2].map((n) => 2 ** Math.round(Math.log2(Math.max(n, 1))));
  compare([freshRun({ max: 0 }), ...steps.slice(1).map((max) => freshRun({ max })), freshRun()]);
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  id("theme").textContent = theme[0].toUpperCase() + theme.slice(1);
  id("theme").setAttribute("aria-label", `Colours: ${theme === "auto" ? "automatic" : theme}`);
  settings.keepTheme(theme);
}

function setPlain(isPlain) {
  page.isPlain = isPlain;
  id("plain").setAttribute("aria-pressed", isPlain);
  settings.keepPlain(isPlain);
  setTurns(turns);
  runs.forEach((run) => run.render());
}

function offerExamples(questions) {
  const buttons = questions.slice(0, 4).map((text) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text.replaceAll("\n", " ");
    button.title = text;
    button.addEventListener("click", () => {
      id("question").value = text;
      page.changed();
      id("question").focus();
    });
    return button;
  });
  id("examples").replaceChildren(...buttons);
}

async function connect() {
  const headers = id("key").value ? { authorization: `Bearer ${id("key").value}` } : {};
  const reply = await fetch("v1/models", { headers }).catch(() => null);
  const card = reply?.ok ? (await reply.json().catch(() => null))?.data?.[0] : null;
  if (!card) {
    const wants = id("key").value ? "the API key is wrong" : "this server wants an API key";
    id("model").textContent = reply?.status === 401 ? wants : "the server does not answer";
    id("format").textContent = "";
    if (reply?.status === 401) askForKey();
    return offerExamples(EXAMPLES);
  }
  page.context = card.max_model_len;
  page.model = card.id;
  id("model").textContent = card.id;
  id("format").textContent = `· ${card.max_model_len} tokens · format ${card.s1kit.thinking_format}`;
  document.title = `${card.id} · s1kit playground`;
  offerExamples(card.s1kit.examples.length ? card.s1kit.examples : EXAMPLES);
  runs.forEach((run) => run.fit());
}

function listen() {
  id("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  id("ask").addEventListener("input", page.changed);
  id("question").addEventListener("focus", unfold);
  id("key").addEventListener("change", () => {
    settings.keepKey(id("key").value);
    connect();
  });
  id("stop").addEventListener("click", stop);
  id("budgets").addEventListener("click", budgets);
  id("waits").addEventListener("click", () => {
    const { max, min, wait } = runs[0].setting;
    compare([0, 1, 2, 4].map((waits) => freshRun({ max: max === 0 ? UNLIMITED : max, min, wait, waits })));
  });
  id("add").addEventListener("click", () => {
    if (runs.length >= MOST_RUNS) return;
    const last = runs.at(-1).setting;
    setRuns([...runs, makeRun({ ...last })]);
    page.changed();
    runs.at(-1).element.scrollIntoView({ block: "nearest" });
    runs.at(-1).fields.max.focus();
  });
  id("afresh").addEventListener("click", () => {
    setTurns([]);
    page.changed();
    id("question").focus();
  });
  id("link").addEventListener("click", () => {
    page.changed();
    copyFrom(id("link"), location.href);
  });
  id("plain").addEventListener("click", () => setPlain(!page.isPlain));
  id("theme").addEventListener("click", () => {
    const order = ["auto", "light", "dark"];
    setTheme(order[(order.indexOf(settings.theme()) + 1) % 3]);
  });
  addEventListener("hashchange", () => show(fromLink(location.hash)));
  addEventListener("resize", page.finished);
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      start();
    } else if (event.key === "Escape") {
      stop();
    }
  });
}

id("run-keys").textContent = navigator.platform.startsWith("Mac") ? "⌘↵" : "Ctrl ↵";
id("key").value = settings.key();
setTheme(settings.theme());
listen();
show(fromLink(location.hash)); // Before the server has answered: nothing typed meanwhile is replaced.
setPlain(page.isPlain);
await connect();
