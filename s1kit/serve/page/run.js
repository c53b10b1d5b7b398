// One run: its dial, its meter, and the thinking and answer of its draws.

import { Draw, finalAnswer, votes } from "./draw.js";
import { UNLIMITED, count } from "./link.js";
import { Document } from "./markdown.js";
import { asCurl, asPython, copyFrom } from "./snippets.js";
import { stopThinking, stream } from "./stream.js";

const STOPS = [0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];
const ENDINGS = {
  closed: "the model stopped thinking",
  cut_off: "the budget ended thinking",
  stopped: "you ended thinking",
  loop: "thinking went in circles and was ended",
};
const NO_KEY = { missing: "This server wants an API key.", wrong: "The API key is wrong." };
const PARTS = ["thinking", "ending", "answer", "failure", "figures", "meter", "fill", "floor", "count", "draws", "vote", "tools", "enough"];

export class Run {
  constructor(template, setting, page) {
    this.page = page; // { context, isPlain, hasKey, scale(), common(), changed(), finished(), remove(run), follow(run) }
    this.element = template.content.firstElementChild.cloneNode(true);
    this.parts = Object.fromEntries(PARTS.map((n) => [n, this.find(`.${n}`)]));
    this.documents = { thinking: new Document(this.parts.thinking), answer: new Document(this.parts.answer) };
    this.fields = this.find("form").elements;
    this.setting = setting;
    this.clear(1);
    this.fit();
    this.listen();
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  get shown() {
    return this.draws[this.index];
  }

  // The slider ends at the model's context.
  fit() {
    this.stops = [...STOPS.filter((n) => n < this.page.context), UNLIMITED];
    this.fields.slide.max = this.stops.length - 1;
    this.set(this.setting);
  }

  listen() {
    const form = this.find("form");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      const { name, value } = event.target;
      const setting = { ...this.setting };
      if (name === "slide") setting.max = this.stops[Number(value)];
      else if (name === "max") setting.max = /^\d+$/.test(value.trim()) ? Number(value) : UNLIMITED;
      else if (name === "wait") setting.wait = value;
      else setting[name] = count(value);
      this.set(setting, event.target);
      this.page.changed();
    });
    this.find(".remove").addEventListener("click", () => this.page.remove(this));
    const copies = {
      "copy-answer": () => this.shown.text.answer.trim(),
      "copy-thinking": () => this.shown.text.thinking.trim(),
      "copy-curl": () => asCurl(this.asked, this.page.hasKey()),
      "copy-python": () => asPython(this.asked, this.page.hasKey()),
    };
    for (const [name, text] of Object.entries(copies)) {
      const button = this.find(`.${name}`);
      button.addEventListener("click", () => copyFrom(button, text()));
    }
    this.parts.enough.addEventListener("click", () => this.stopThinking());
    this.find(".follow").addEventListener("click", () => this.page.follow(this));
  }

  // Shows a setting in all fields but the one being typed in.
  set(setting, typed = null) {
    this.setting = setting;
    const { max, min, waits, wait, slide } = this.fields;
    const nearest = setting.max === UNLIMITED ? this.stops.length - 1 : this.stops.findLastIndex((n) => n <= setting.max && n >= 0);
    const values = [[max, setting.max === UNLIMITED ? "" : setting.max], [min, setting.min], [waits, setting.waits], [wait, setting.wait], [slide, nearest]];
    for (const [field, value] of values) if (field !== typed) field.value = value;
    slide.setAttribute("aria-valuetext", setting.max === UNLIMITED ? "no limit" : `${setting.max} tokens`);
    this.draw();
  }

  body(common) {
    const { max, min, waits, wait } = this.setting;
    const body = { ...common, thinking_token_budget: max };
    if (min) body.min_thinking_tokens = min;
    if (waits) body.num_waits = waits;
    const phrases = wait.split("|").filter((text) => text.trim());
    if (phrases.length && (waits || min)) body.wait = phrases.length === 1 ? phrases[0] : phrases;
    return body;
  }

  clear(number) {
    this.draws = Array.from({ length: number }, () => new Draw());
    this.index = 0;
    this.queue = [];
    this.parts.draws.hidden = number < 2;
    this.parts.draws.replaceChildren(...this.draws.map((_, i) => this.tab(i)));
    for (const document of Object.values(this.documents)) document.clear();
    for (const name of ["ending", "failure", "figures", "vote"]) this.parts[name].replaceChildren();
    this.parts.tools.hidden = true;
    this.parts.ending.classList.remove("forced");
    this.element.classList.remove("failed", "answering", "done");
  }

  // The button that shows a draw.
  tab(i) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = i + 1;
    button.setAttribute("aria-label", `Draw ${i + 1}`);
    button.setAttribute("aria-pressed", i === this.index);
    button.addEventListener("click", () => this.show(i));
    return button;
  }

  show(i) {
    this.index = i;
    [...this.parts.draws.children].forEach((tab, j) => tab.setAttribute("aria-pressed", i === j));
    this.page.drawAll();
    this.render();
    this.describe();
    this.offer();
  }

  async start(common, key, signal) {
    this.asked = this.body(common);
    this.key = key;
    this.id = null;
    this.clear(common.n ?? 1);
    this.draw();
    this.element.classList.add("busy");
    this.began = performance.now();
    this.firstAt = this.seconds = null;
    try {
      await stream(this.asked, key, signal, (event) => this.take(event));
      this.flush();
      this.finish();
      return this.shown.text.answer;
    } catch (error) {
      this.flush();
      this.fail(error);
      throw error;
    } finally {
      this.element.classList.remove("busy", "answering");
      this.parts.enough.hidden = true;
      this.offer();
    }
  }

  take(event) {
    const choice = event.choices[0];
    if (!choice) return;
    this.firstAt ??= performance.now();
    if (!this.id) {
      this.id = event.id;
      this.parts.enough.disabled = false;
    }
    this.queue.push(choice);
    this.frame ??= requestAnimationFrame(() => this.flush());
  }

  // Takes in what has come since the last frame, and shows it. Rendering gets at most a tenth of the time.
  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    for (const choice of this.queue.splice(0)) this.draws[choice.index]?.take(choice);
    this.page.drawAll();
    this.element.classList.toggle("answering", this.shown.isAnswering);
    this.parts.enough.hidden = !this.id || this.draws.every((draw) => draw.isAnswering || draw.account);
    clearTimeout(this.later);
    const now = performance.now();
    if (now >= (this.renderAt ?? 0)) this.render();
    else this.later = setTimeout(() => this.render(), this.renderAt - now);
  }

  // Ends the thinking of all draws of this run; the reply goes on with the answer. One that answers already says so.
  async stopThinking() {
    this.parts.enough.disabled = true;
    const reply = await stopThinking(this.id, this.key).catch(() => null);
    if (!reply?.ok && reply?.status !== 409 && reply?.status !== 404) this.parts.enough.disabled = false;
  }

  render() {
    clearTimeout(this.later);
    const began = performance.now();
    const { thinking } = this.parts;
    const follows = thinking.scrollHeight - thinking.scrollTop - thinking.clientHeight < 40;
    this.documents.thinking.show(this.shown.source.thinking, this.page.isPlain);
    this.documents.answer.show(this.shown.source.answer, this.page.isPlain);
    if (follows) thinking.scrollTop = thinking.scrollHeight;
    this.renderAt = performance.now() + 10 * (performance.now() - began);
  }

  // The meter. All runs share one scale, so that their bars can be compared.
  draw() {
    const { max, min } = this.setting;
    const { spans, tokens } = this.shown;
    const scale = Math.max(this.page.scale(), 1);
    const share = (number) => `${(100 * number) / scale}%`;
    const bits = spans.map(({ origin, tokens: number }) => {
      const bit = document.createElement("i");
      bit.className = origin;
      bit.style.width = `${(100 * number) / Math.max(tokens.thinking, 1)}%`;
      return bit;
    });
    this.parts.fill.replaceChildren(...bits);
    this.parts.fill.style.width = share(tokens.thinking);
    this.find(".track").style.width = max === UNLIMITED ? "100%" : share(Math.max(max, scale / 50));
    if (max !== UNLIMITED) this.parts.fill.style.width = `${(100 * tokens.thinking) / Math.max(max, 1)}%`;
    this.parts.floor.style.display = min ? "block" : "none";
    this.parts.floor.style.left = max === UNLIMITED ? share(min) : `${(100 * min) / Math.max(max, 1)}%`;
    this.count();
  }

  count() {
    const { thinking, forced, waits } = this.shown.tokens;
    const of = this.setting.max === UNLIMITED ? "" : ` of ${this.setting.max}`;
    const words = `${of} thinking ${(this.setting.max === UNLIMITED ? thinking : this.setting.max) === 1 ? "token" : "tokens"}`;
    const said = `${thinking}${words}`;
    const put = forced ? `, ${forced} put in by ${waits} ${waits === 1 ? "wait" : "waits"}` : "";
    this.parts.meter.setAttribute("aria-label", said + put);
    const number = document.createElement("b");
    number.textContent = thinking;
    const extra = document.createElement("span");
    extra.className = "put";
    extra.textContent = put;
    this.parts.count.replaceChildren(number, words, extra);
  }

  finish() {
    this.seconds = (performance.now() - this.began) / 1000;
    this.element.classList.add("done");
    this.render();
    this.describe();
    this.page.finished();
  }

  // What can be done with the draw that is shown: nothing with a text that it does not have.
  offer() {
    if (!this.asked || this.element.classList.contains("busy")) return;
    const { thinking, answer } = this.shown.text;
    for (const name of ["follow", "copy-answer"]) this.find(`.${name}`).hidden = !answer.trim();
    this.find(".copy-thinking").hidden = !thinking.trim();
    this.parts.tools.hidden = false;
  }

  // What is said of the draw that is shown, and of the vote of all.
  describe() {
    const { account, tokens, text } = this.shown;
    if (!account || !this.seconds) return;
    const { ending, finish, forced_tokens: forced } = account;
    const isForced = ending === "cut_off" || ending === "loop";
    const how = account.stopped ? "stopped" : ending;
    this.parts.ending.textContent = this.asked.thinking_token_budget === 0 ? "no thinking was allowed" : ENDINGS[how] ?? "";
    this.parts.ending.classList.toggle("forced", isForced);
    const total = this.draws.reduce((sum, draw) => sum + draw.tokens.thinking + draw.tokens.answer, 0);
    const figures = [
      `${tokens.answer} answer ${tokens.answer === 1 ? "token" : "tokens"}`,
      `${forced ?? 0} forced in all`,
      `first after ${Math.round(this.firstAt - this.began)} ms`,
      `${this.seconds.toFixed(1)} s, ${Math.round(total / this.seconds)} tokens/s`,
    ];
    if (finish === "length") figures.unshift("the answer ran out of room");
    this.parts.figures.textContent = figures.join(" · ");
    if (!text.answer) this.documents.answer.show("(no answer)", true);
    if (this.draws.length > 1) this.vote();
  }

  vote() {
    const found = votes(this.draws);
    const parts = found.map(({ answer, draws }) => [answer, ` (${draws.length})`]);
    const texts = new Set(this.draws.map((draw) => draw.text.thinking + draw.text.answer));
    const isDrawn = this.asked.temperature > 0; // then they may be alike by chance
    const note = texts.size === 1 && !isDrawn ? " All draws are the same: set a temperature above 0." : "";
    const isTie = found.length > 1 && found[0].draws.length === found[1].draws.length;
    const said = parts.flatMap(([answer, number], i) => {
      const shown = document.createElement(i === 0 && !isTie ? "b" : "span");
      shown.textContent = answer;
      return [i ? " · " : "", shown, number];
    });
    const end = !found.length ? "no answer to vote on." : isTie ? ", a tie." : ".";
    this.parts.vote.replaceChildren(`Vote of ${this.draws.length} draws: `, ...said, end, note);
    [...this.parts.draws.children].forEach((tab, i) => {
      tab.title = finalAnswer(this.draws[i].text.answer);
      tab.classList.toggle("won", !isTie && found[0]?.draws.includes(i));
    });
  }

  fail(error) {
    const stopped = error.name === "AbortError";
    this.parts.ending.textContent = stopped ? "stopped" : "";
    this.render();
    if (stopped) return;
    this.element.classList.add("failed");
    this.parts.failure.textContent = error.status === 401 ? `${NO_KEY[this.key ? "wrong" : "missing"]} Give it under More.` : error.message;
    if (error.param) this.fields[FIELDS[error.param] ?? ""]?.focus({ preventScroll: true });
  }
}

const FIELDS = { thinking_token_budget: "max", min_thinking_tokens: "min", num_waits: "waits", wait: "wait" };
