// The whole state of the page as the part of its address after #, and back. Keys are never in it.

export const UNLIMITED = -1;

export const freshRun = (more = {}) => ({ max: UNLIMITED, min: 0, waits: 0, wait: "", ...more });

// Temperature and seed are text, empty for the model's own.
export function toLink(state) {
  const out = new URLSearchParams();
  for (const turn of state.turns) {
    out.append("asked", turn.question);
    out.append("answered", turn.answer);
  }
  if (state.question) out.set("q", state.question);
  if (state.system) out.set("system", state.system);
  if (state.temperature !== "") out.set("t", state.temperature);
  if (state.seed !== "") out.set("seed", state.seed);
  if (state.answer) out.set("answer", state.answer);
  if (state.draws > 1) out.set("draws", state.draws);
  for (const run of state.runs) {
    const parts = [];
    if (run.max !== UNLIMITED) parts.push(`max=${run.max}`);
    if (run.min) parts.push(`min=${run.min}`);
    if (run.waits) parts.push(`waits=${run.waits}`);
    if (run.wait) parts.push(`wait=${encodeURIComponent(run.wait)}`);
    out.append("run", parts.join("&"));
  }
  return `#${out}`;
}

export function fromLink(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  const runs = found.getAll("run").slice(0, 8).map((text) => {
    const run = new URLSearchParams(text);
    return freshRun({
      max: run.has("max") ? count(run.get("max")) : UNLIMITED,
      min: count(run.get("min")),
      waits: count(run.get("waits")),
      wait: run.get("wait") ?? "",
    });
  });
  const answers = found.getAll("answered");
  return {
    turns: found.getAll("asked").map((question, i) => ({ question, answer: answers[i] ?? "" })),
    question: found.get("q") ?? "",
    system: found.get("system") ?? "",
    temperature: numeric(found.get("t")),
    seed: numeric(found.get("seed")),
    answer: count(found.get("answer")),
    draws: Math.min(Math.max(count(found.get("draws")), 1), 16),
    runs: runs.length ? runs : [freshRun()],
  };
}

export const count = (text) => Math.max(0, Math.trunc(Number(text)) || 0);
const numeric = (text) => (text && Number.isFinite(Number(text)) ? text : "");
