// One run: its dial, its meter, its thinking and its answer. Model text only ever becomes text nodes.

import { UNLIMITED } from "./link.js";
import { stream } from "./stream.js";

const STOPS = [0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];
const ENDINGS = {
  closed: "the model stopped thinking",
  cut_off: "the budget ended thinking",
  loop: "thinking went in circles and was ended",
};

export class Run {
  constructor(template, setting, page) {
    this.page = page; // { context, scale(), changed(), remove(run) }
    this.element = template.content.firstElementChild.cloneNode(true);
    this.parts = Object.fromEntries(
      ["thinking", "ending", "answer", "figures", "meter", "fill", "floor", "count"].map((n) => [n, this.find(`.${n}`)]),
    );
    this.fields = this.find("form").elements;
    this.stops = [...STOPS.filter((n) => n < page.context), UNLIMITED];
    this.fields.slide.max = this.stops.length - 1;
    this.setting = setting;
    this.clear();
    this.set(setting);
    this.listen();
  }

  find(selector) {
    return this.element.querySelector(selector);
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
      else setting[name] = Math.max(0, Math.trunc(Number(value)) || 0);
      this.set(setting, event.target);
      this.page.changed();
    });
    this.find(".remove").addEventListener("click", () => this.page.remove(this));
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

  clear() {
    this.spans = []; // runs of one origin: [{ origin, tokens }]
    this.tokens = { thinking: 0, forced: 0, answer: 0, waits: 0 };
    this.queue = [];
    for (const name of ["thinking", "answer", "ending", "figures"]) this.parts[name].replaceChildren();
    this.parts.answer.classList.remove("error");
    this.parts.ending.classList.remove("forced");
    this.element.classList.remove("failed", "answering", "done");
    this.draw();
  }

  async start(common, key, signal) {
    this.clear();
    this.element.classList.add("busy");
    this.began = performance.now();
    this.firstAt = this.account = null;
    try {
      await stream(this.body(common), key, signal, (event) => this.take(event));
      this.flush();
      this.finish();
      return this.parts.answer.textContent;
    } catch (error) {
      this.flush();
      this.fail(error);
      throw error;
    } finally {
      this.element.classList.remove("busy", "answering");
    }
  }

  take(event) {
    const choice = event.choices[0];
    if (!choice) return;
    this.firstAt ??= performance.now();
    if (choice.finish_reason) this.account = { ...choice.s1kit, finish: choice.finish_reason };
    const text = (choice.delta.reasoning ?? "") + (choice.delta.content ?? "");
    this.queue.push({ ...choice.s1kit, text });
    this.frame ??= requestAnimationFrame(() => this.flush());
  }

  // Puts what has come since the last frame on the page.
  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    const follows = atEnd(this.parts.thinking);
    for (const { kind, origin, num_tokens: num = 0, text } of this.queue.splice(0)) {
      const isThinking = kind === "thinking" || kind === "wait";
      if (isThinking) {
        this.tokens.thinking += num;
        this.tokens.waits += kind === "wait" ? 1 : 0;
        this.tokens.forced += origin === "forced" ? num : 0;
        const last = this.spans.at(-1);
        if (last?.origin === origin) last.tokens += num;
        else this.spans.push({ origin, tokens: num });
      } else if (kind === "close") {
        this.element.classList.add("answering");
      } else if (kind) {
        this.tokens.answer += num;
      }
      if (text) append(this.parts[isThinking ? "thinking" : "answer"], text, origin === "forced");
    }
    if (follows) this.parts.thinking.scrollTop = this.parts.thinking.scrollHeight;
    this.page.drawAll();
  }

  // The meter. All runs share one scale, so that their bars can be compared.
  draw() {
    const { max, min } = this.setting;
    const scale = Math.max(this.page.scale(), 1);
    const share = (tokens) => `${(100 * tokens) / scale}%`;
    const bits = this.spans.map(({ origin, tokens }) => {
      const bit = document.createElement("i");
      bit.className = origin;
      bit.style.width = `${(100 * tokens) / Math.max(this.tokens.thinking, 1)}%`;
      return bit;
    });
    this.parts.fill.replaceChildren(...bits);
    this.parts.fill.style.width = share(this.tokens.thinking);
    this.find(".track").style.width = max === UNLIMITED ? "100%" : share(Math.max(max, scale / 50));
    if (max !== UNLIMITED) this.parts.fill.style.width = `${(100 * this.tokens.thinking) / Math.max(max, 1)}%`;
    this.parts.floor.style.display = min ? "block" : "none";
    this.parts.floor.style.left = max === UNLIMITED ? share(min) : `${(100 * min) / Math.max(max, 1)}%`;
    this.count();
  }

  count() {
    const { thinking, forced, waits } = this.tokens;
    const of = this.setting.max === UNLIMITED ? "" : ` of ${this.setting.max}`;
    const said = `${thinking}${of} thinking tokens`;
    const put = forced ? `, ${forced} put in by ${waits} ${waits === 1 ? "wait" : "waits"}` : "";
    this.parts.meter.setAttribute("aria-label", said + put);
    const number = document.createElement("b");
    number.textContent = thinking;
    const extra = document.createElement("span");
    extra.className = "put";
    extra.textContent = put;
    this.parts.count.replaceChildren(number, `${of} thinking tokens`, extra);
  }

  finish() {
    const { ending, finish, forced_tokens: forced } = this.account ?? {};
    this.element.classList.add("done");
    this.parts.ending.textContent = ENDINGS[ending] ?? "";
    this.parts.ending.classList.toggle("forced", ending === "cut_off" || ending === "loop");
    const seconds = (performance.now() - this.began) / 1000;
    const total = this.tokens.thinking + this.tokens.answer;
    const figures = [
      `${this.tokens.answer} answer ${this.tokens.answer === 1 ? "token" : "tokens"}`,
      `${forced ?? 0} forced in all`,
      `first after ${Math.round(this.firstAt - this.began)} ms`,
      `${seconds.toFixed(1)} s, ${Math.round(total / seconds)} tokens/s`,
    ];
    if (finish === "length") figures.unshift("the answer ran out of room");
    this.parts.figures.textContent = figures.join(" · ");
    if (!this.parts.answer.textContent) this.parts.answer.textContent = "(no answer)";
  }

  fail(error) {
    const stopped = error.name === "AbortError";
    this.parts.ending.textContent = stopped ? "stopped" : "";
    if (stopped) return;
    this.element.classList.add("failed");
    this.parts.answer.classList.add("error");
    this.parts.answer.textContent = error.message;
    if (error.param) this.fields[FIELDS[error.param] ?? ""]?.focus();
  }
}

const FIELDS = { thinking_token_budget: "max", min_thinking_tokens: "min", num_waits: "waits", wait: "wait" };

function append(parent, text, isForced) {
  const last = parent.lastChild;
  if (isForced) {
    const mark = document.createElement("mark");
    mark.textContent = text;
    mark.title = "put in by s1kit";
    parent.append(mark);
  } else if (last?.nodeType === Node.TEXT_NODE) {
    last.appendData(text);
  } else {
    parent.append(document.createTextNode(text));
  }
}

const atEnd = (element) => element.scrollHeight - element.scrollTop - element.clientHeight < 40;
