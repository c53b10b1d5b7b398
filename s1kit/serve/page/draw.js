// One draw of a run: the text, tokens and ending that one choice of a reply has had so far. Knows nothing of the page.

import { marked as markForced } from "./markdown.js";

export class Draw {
  constructor() {
    this.text = { thinking: "", answer: "" };
    this.source = { thinking: "", answer: "" }; // the same, with forced text marked for the renderer
    this.spans = []; // runs of one origin: [{ origin, tokens }]
    this.tokens = { thinking: 0, forced: 0, answer: 0, waits: 0 };
    this.account = null;
    this.isAnswering = false;
  }

  // One choice of a chunk.
  take(choice) {
    if (choice.finish_reason) this.account = { ...choice.s1kit, finish: choice.finish_reason };
    const { kind, origin, num_tokens: num = 0 } = choice.s1kit ?? {};
    const isThinking = kind === "thinking" || kind === "wait";
    if (isThinking) {
      this.tokens.thinking += num;
      this.tokens.waits += kind === "wait" ? 1 : 0;
      this.tokens.forced += origin === "forced" ? num : 0;
      const last = this.spans.at(-1);
      if (last?.origin === origin) last.tokens += num;
      else this.spans.push({ origin, tokens: num });
    } else if (kind === "close") {
      this.isAnswering = true;
    } else if (kind) {
      this.tokens.answer += num;
    }
    const text = (choice.delta.reasoning ?? "") + (choice.delta.content ?? "");
    if (!text) return;
    const part = isThinking ? "thinking" : "answer";
    this.text[part] += text;
    this.source[part] += markForced(text, origin === "forced");
  }
}

// The final answer in a text, for counting votes: the last \boxed{}, else what follows "answer is" or "answer:", else
// the last number, else the whole text. Answers that differ only in how they are typeset count as one.
export function finalAnswer(text) {
  const found = boxed(text) ?? said(text) ?? text.match(/-?\d[\d,]*(?:\.\d+)?(?:\/\d+)?/g)?.at(-1) ?? text;
  const bare = found.replace(/\\(?:text|mathrm|mathbf)\{([^{}]*)\}/g, "$1").replace(/\\[dt]frac/g, "\\frac");
  const tidy = bare.replace(/\\[()[\]]|[$*`]|\\[,;! ]/g, "").replace(/(\d),(?=\d{3}(?!\d))/g, "$1");
  return tidy.replace(/\s+/g, " ").trim().replace(/[.。]$/, "").trim().slice(0, 80);
}

function boxed(text) {
  const start = text.lastIndexOf("\\boxed{");
  if (start < 0) return null;
  let depth = 0;
  for (let i = start + 6; i < text.length; i++) {
    if (text[i] === "{") depth += 1;
    else if (text[i] === "}" && (depth -= 1) === 0) return text.slice(start + 7, i);
  }
  return null;
}

function said(text) {
  const all = [...text.matchAll(/answer(?:\s+is\s*:?|\s*:)[\s*]*([^\n]+)/gi)].map((match) => match[1].trim());
  return all.filter(Boolean).at(-1) ?? null;
}

// [{ answer, draws: [indices] }], the most frequent first; draws without an answer do not vote.
export function votes(draws) {
  const found = new Map();
  draws.forEach((draw, i) => {
    const answer = finalAnswer(draw.text.answer);
    if (!draw.account || !answer) return;
    if (!found.has(answer)) found.set(answer, []);
    found.get(answer).push(i);
  });
  return [...found].map(([answer, indices]) => ({ answer, draws: indices })).sort((a, b) => b.draws.length - a.draws.length);
}
