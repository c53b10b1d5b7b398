// Answers against thinking tokens, one point for each draw of each run: do more tokens bring another answer?

import { finalAnswer } from "./draw.js";

const NS = "http://www.w3.org/2000/svg";
const MOST_ROWS = 6;

// Fills a figure; hides it while fewer than two draws have answered.
export function plot(figure, runs) {
  const points = runs.flatMap((run, r) =>
    run.draws.filter((draw) => draw.account).map((draw) => ({
      run: r + 1,
      tokens: draw.tokens.thinking,
      answer: finalAnswer(draw.text.answer) || "(no answer)",
    })),
  );
  figure.hidden = points.length < 2;
  if (figure.hidden) return;
  const counts = new Map();
  for (const { answer } of points) counts.set(answer, (counts.get(answer) ?? 0) + 1);
  const ranked = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a));
  const rows = ranked.length > MOST_ROWS ? [...ranked.slice(0, MOST_ROWS - 1), "other answers"] : ranked;
  const row = (answer) => (rows.includes(answer) ? rows.indexOf(answer) : rows.length - 1);
  const width = Math.max(figure.clientWidth || 600, 240);
  const left = Math.min(160, width / 3), right = 24, line = 34;
  const height = rows.length * line + 34;
  const most = Math.max(...points.map((point) => point.tokens), 1);
  const x = (tokens) => left + ((width - left - right) * tokens) / most;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
  svg.append(shape("title", {}, summary(rows, points)));
  rows.forEach((answer, i) => {
    const y = 18 + i * line;
    svg.append(shape("line", { x1: left, x2: width - right, y1: y, y2: y, class: "row" }));
    const letters = Math.floor(left / 8);
    const label = answer.length > letters ? `${answer.slice(0, letters - 1)}…` : answer;
    svg.append(shape("text", { x: left - 14, y: y + 4, class: "label" }, label));
  });
  const taken = new Map(); // points at one place are moved apart, so far that the number of each run can be read
  for (const { run, tokens, answer } of points) {
    const place = `${Math.round(x(tokens) / 14)} ${row(answer)}`;
    const last = taken.get(place);
    const moved = last ? last.moved + (last.run === run ? 4 : 19) : 0;
    taken.set(place, { run, moved });
    const at = x(tokens) + (x(tokens) > 0.7 * width ? -moved : moved);
    const group = shape("g", { class: "point", transform: `translate(${at} ${18 + row(answer) * line})` });
    group.append(shape("circle", { r: 9 }), shape("text", { y: 4 }, String(run)));
    group.append(shape("title", {}, `run ${run}: ${answer} after ${tokens} thinking tokens`));
    svg.append(group);
  }
  const foot = 18 + rows.length * line;
  for (const tokens of [0, Math.round(most / 2), most]) svg.append(shape("text", { x: x(tokens), y: foot, class: "tick" }, tokens));
  figure.querySelector("div").replaceChildren(svg);
}

const summary = (rows, points) =>
  rows.map((answer) => `${answer}: ${points.filter((p) => p.answer === answer).map((p) => `run ${p.run} (${p.tokens})`).join(", ")}`).join("; ");

function shape(name, attributes, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
