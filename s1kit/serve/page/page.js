// The page: one question, several runs beside each other, and an address that brings all of it back.

import { UNLIMITED, freshRun, fromLink, toLink } from "./link.js";
import { Run } from "./run.js";

const MOST_RUNS = 8;
const EXAMPLES = [
  "How many r's are in raspberry?",
  "A bat and a ball cost $1.10 together. The bat costs a dollar more than the ball. What does the ball cost?",
  "What is the largest prime factor of 1001?",
];
const id = (name) => document.getElementById(name);
const template = id("run-template");
let runs = [];
let controller = null;

const page = {
  context: 4096,
  // The number of tokens that a full-width meter stands for.
  scale: () => Math.max(...runs.map((run) => Math.max(run.setting.max, run.tokens.thinking, run.setting.min)), 1),
  changed: () => {
    history.replaceState(null, "", toLink(state()));
    page.drawAll();
  },
  drawAll: () => runs.forEach((run) => run.draw()),
  remove: (run) => {
    if (runs.length === 1) return;
    setRuns(runs.filter((other) => other !== run));
    page.changed();
  },
};

const state = () => ({
  question: id("question").value,
  system: id("system").value,
  temperature: Number(id("temperature").value) || 0,
  seed: Math.trunc(Number(id("seed").value)) || 0,
  answer: Math.trunc(Number(id("answer").value)) || 0,
  runs: runs.map((run) => run.setting),
});

function setRuns(wanted) {
  runs = wanted;
  id("runs").replaceChildren(...runs.map((run) => run.element));
  id("runs").dataset.count = runs.length;
  id("add").hidden = runs.length >= MOST_RUNS;
  page.drawAll();
}

const makeRun = (setting) => new Run(template, setting, page);

function show(found) {
  for (const name of ["question", "system"]) id(name).value = found[name];
  id("temperature").value = found.temperature;
  id("seed").value = found.seed;
  id("answer").value = found.answer || "";
  runs = [];
  setRuns(found.runs.map(makeRun));
}

async function start() {
  if (!id("question").value.trim()) return id("question").focus();
  controller?.abort();
  controller = new AbortController();
  const mine = controller;
  const { question, system, temperature, seed, answer } = state();
  const messages = [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: question }];
  const common = { messages, temperature, seed, ...(answer ? { answer_tokens: answer } : {}) };
  setBusy(true);
  id("news").textContent = `Running ${runs.length === 1 ? "" : `${runs.length} runs`}`;
  const outcomes = await Promise.allSettled(runs.map((run) => run.start(common, id("key").value, mine.signal)));
  if (controller !== mine) return;
  setBusy(false);
  const said = outcomes.map((o, i) => `Run ${i + 1}: ${o.status === "fulfilled" ? o.value : o.reason.message}`);
  id("news").textContent = `Done. ${said.join(". ")}`;
  if (outcomes.some((o) => o.reason?.status === 401)) askForKey();
}

function setBusy(isBusy) {
  id("stop").hidden = !isBusy;
  id("run").disabled = isBusy;
}

function stop() {
  controller?.abort();
}

function askForKey() {
  document.querySelector(".more").open = true;
  id("key").focus();
}

function compare(settings) {
  setRuns(settings.map(makeRun));
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
  try {
    localStorage.setItem("s1kit-theme", theme);
  } catch {} // Private windows may have no storage.
}

function storedTheme() {
  try {
    return localStorage.getItem("s1kit-theme") ?? "auto";
  } catch {
    return "auto";
  }
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
  if (!reply?.ok) {
    id("model").textContent = reply?.status === 401 ? "this server wants an API key" : "the server does not answer";
    if (reply?.status === 401) askForKey();
    return offerExamples(EXAMPLES);
  }
  const card = (await reply.json()).data[0];
  page.context = card.max_model_len;
  id("model").textContent = card.id;
  id("format").textContent = `· ${card.max_model_len} tokens · format ${card.s1kit.thinking_format}`;
  document.title = `${card.id} · s1kit playground`;
  offerExamples(card.s1kit.examples.length ? card.s1kit.examples : EXAMPLES);
}

function listen() {
  id("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  id("ask").addEventListener("input", page.changed);
  id("key").addEventListener("change", connect);
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
  id("link").addEventListener("click", async () => {
    page.changed();
    await navigator.clipboard?.writeText(location.href).catch(() => {});
    id("link").textContent = "Copied";
    setTimeout(() => (id("link").textContent = "Copy link"), 1500);
  });
  id("theme").addEventListener("click", () => {
    const order = ["auto", "light", "dark"];
    setTheme(order[(order.indexOf(storedTheme()) + 1) % 3]);
  });
  addEventListener("hashchange", () => show(fromLink(location.hash)));
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
setTheme(storedTheme());
listen();
await connect();
show(fromLink(location.hash));
