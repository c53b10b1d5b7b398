// Model text as a document: Markdown, LaTeX and code. A parser turns it into tokens and this file turns tokens into
// elements; text only ever becomes text nodes, and no string is ever read as HTML.

import { Marked } from "./vendor/marked.esm.js";

// Forced text is enclosed in two code points for private use, which the model's own text is freed of.
const OPEN = "\uE000", SHUT = "\uE001";
const MARKS = /[\uE000\uE001]/g;
const LONGEST = 60000; // characters; longer text is shown as it is
const LONGEST_MATH = 3000;
const MOST_MARKS = 4000; // what may begin a formula, code or a link: more are shown as they are, as parsing takes quadratic time
const MONEY = /^\$\d[\d.,]*\)?\s+(?!mod\b)[a-z]{2,}/i; // a price and a word, of which another price seems to be the end
const MARKS_OF_SYNTAX = /[$`[*_~>|]|\\[([]/g;

export function marked(text, isForced) {
  const clean = text.replace(MARKS, "\uFFFD");
  return isForced ? clean.replace(/[^\n]+/g, `${OPEN}$&${SHUT}`) : clean;
}

const math = (pattern, name, level) => ({
  name,
  level,
  start: (text) => text.match(level === "block" ? /\$\$|\\\[|\\begin\{/ : /\$|\\\(|\\\[|\\boxed\{|\\begin\{/)?.index,
  tokenizer(text) {
    const found = pattern.exec(text);
    if (!found || MONEY.test(found[0])) return undefined;
    const tex = found.slice(1).find((group) => group !== undefined);
    return { type: "math", raw: found[0], text: tex, isBlock: level === "block" || /^(\$\$|\\\[|\\begin)/.test(found[0]) };
  },
});
const any = `[\\s\\S]{1,${LONGEST_MATH}}?`;
const ENVIRONMENT = `(\\\\begin\\{(?:align|aligned|equation|gather|cases|array|[pbv]?matrix)\\*?\\}${any}\\\\end\\{[a-z]+\\*?\\})`;
const BOXED = "\\\\boxed\\{(?:[^{}]|\\{(?:[^{}]|\\{[^{}]{0,200}\\}){0,200}\\}){0,200}\\}"; // an answer that stands outside a formula
const parser = new Marked({
  gfm: true,
  breaks: true,
  extensions: [
    math(new RegExp(`^ {0,3}(?:\\$\\$(${any})\\$\\$|\\\\\\[(${any})\\\\\\]|${ENVIRONMENT})[ \\t]*(?:\\n|$)`), "blockMath", "block"),
    math(
      new RegExp(`^(?:\\$\\$(${any})\\$\\$|\\\\\\[(${any})\\\\\\]|\\\\\\((${any})\\\\\\)|${ENVIRONMENT}|(${BOXED})|\\$(?!\\s)((?:\\\\.|[^\\\\$\\n]){1,400}?)(?<!\\s)\\$(?!\\d))`),
      "inlineMath",
      "inline",
    ),
  ],
});

// Shows a text in an element, and keeps the blocks that have not changed since the last time.
export class Document {
  constructor(element) {
    this.element = element;
    this.clear();
  }

  clear() {
    this.blocks = [];
    this.shown = null;
    this.element.replaceChildren();
  }

  show(text, isPlain = false) {
    const key = `${isPlain}${text}`;
    if (key === this.shown) return;
    this.shown = key;
    const blocks = isPlain || isTooMuch(text) ? plain(text) : parsed(text);
    const same = blocks.findIndex((block, i) => block.raw !== this.blocks[i]?.raw || block.type !== this.blocks[i]?.type);
    const kept = same < 0 ? blocks.length : same;
    for (const block of this.blocks.slice(kept)) block.node.remove();
    this.blocks.length = kept;
    for (const block of blocks.slice(kept)) {
      const node = document.createElement("div");
      node.dir = "auto";
      new Writer().block(node, block);
      this.element.append(node);
      this.blocks.push({ raw: block.raw, type: block.type, node });
    }
  }
}

const isTooMuch = (text) => text.length > LONGEST || (text.match(MARKS_OF_SYNTAX)?.length ?? 0) > MOST_MARKS;
const plain = (text) => [{ type: "plain", raw: text }];

function parsed(text) {
  try {
    return [...parser.lexer(text)];
  } catch {
    return plain(text); // Nested too deeply.
  }
}

// The entities that models write where they mean the character; the result is text like all other.
const ENTITIES = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'", "#39": "'", nbsp: "\u00A0" };
const unescaped = (text) => text.replace(/&(lt|gt|amp|quot|apos|#39|nbsp);/g, (_, name) => ENTITIES[name]);

class Writer {
  isForced = false;

  element(parent, name, className) {
    const made = document.createElement(name);
    if (className) made.className = className;
    parent.append(made);
    return made;
  }

  text(parent, text) {
    for (const part of text.split(/([\uE000\uE001])/)) {
      if (part === OPEN || part === SHUT) {
        this.isForced = part === OPEN;
      } else if (part && this.isForced) {
        const mark = this.element(parent, "mark");
        mark.textContent = part;
        mark.title = "put in by s1kit";
      } else if (part) {
        parent.append(document.createTextNode(part));
      }
    }
  }

  blocks(parent, tokens) {
    for (const token of tokens) this.block(parent, token);
  }

  block(parent, token) {
    switch (token.type) {
      case "space": return;
      case "heading": return this.inlines(this.element(parent, `h${Math.min(token.depth + 2, 6)}`), token.tokens);
      case "paragraph": return this.inlines(this.element(parent, "p"), token.tokens);
      case "blockquote": return this.blocks(this.element(parent, "blockquote"), token.tokens);
      case "hr": return this.element(parent, "hr");
      case "code": return this.code(parent, token);
      case "list": return this.list(parent, token);
      case "table": return this.table(parent, token);
      case "math": return this.math(parent, token);
      case "checkbox": return this.text(parent, token.checked ? "☑ " : "☐ ");
      case "text": return token.tokens ? this.inlines(parent, token.tokens) : this.text(parent, unescaped(token.text));
      default: return this.text(this.element(parent, "p"), token.raw); // HTML and link definitions too
    }
  }

  code(parent, token) {
    const pre = this.element(parent, "pre");
    const name = (token.lang ?? "").replace(MARKS, "").split(/\s/)[0];
    if (name) pre.dataset.language = name;
    this.text(this.element(pre, "code"), token.text);
  }

  list(parent, token) {
    const list = this.element(parent, token.ordered ? "ol" : "ul");
    if (token.ordered && token.start !== 1) list.start = token.start;
    for (const item of token.items) this.blocks(this.element(list, "li", item.task ? "task" : ""), item.tokens);
  }

  table(parent, token) {
    const table = this.element(this.element(parent, "div", "wide"), "table");
    const row = (cells, name) => {
      const line = this.element(table, "tr");
      for (const cell of cells) {
        const place = this.element(line, name);
        if (cell.align) place.style.textAlign = cell.align;
        this.inlines(place, cell.tokens);
      }
    };
    row(token.header, "th");
    for (const cells of token.rows) row(cells, "td");
  }

  inlines(parent, tokens) {
    for (const token of tokens) this.inline(parent, token);
  }

  inline(parent, token) {
    switch (token.type) {
      case "strong": return this.inlines(this.element(parent, "strong"), token.tokens);
      case "em": return this.inlines(this.element(parent, "em"), token.tokens);
      case "del": return this.inlines(this.element(parent, "del"), token.tokens);
      case "codespan": return this.text(this.element(parent, "code"), token.text);
      case "br": return this.element(parent, "br");
      case "math": return this.math(parent, token);
      case "link": return this.link(parent, token);
      case "checkbox": return this.text(parent, token.checked ? "☑ " : "☐ ");
      case "escape": return this.text(parent, token.text);
      case "text": return token.tokens ? this.inlines(parent, token.tokens) : this.text(parent, unescaped(token.text));
      default: return this.text(parent, token.raw); // HTML and images: as they were written
    }
  }

  link(parent, token) {
    if (!/^https?:\/\/[^\s]+$/i.test(token.href)) return this.text(parent, token.raw);
    const link = this.element(parent, "a");
    link.href = token.href.replace(MARKS, "");
    link.rel = "noopener noreferrer";
    link.target = "_blank";
    link.title = link.href;
    this.inlines(link, token.tokens);
  }

  math(parent, token) {
    const place = this.element(parent, token.isBlock ? "div" : "span", token.isBlock ? "wide" : "");
    try {
      const options = { displayMode: token.isBlock, trust: false, maxExpand: 500, maxSize: 40, strict: "ignore" };
      katex.render(token.text.replace(MARKS, ""), place, options);
      place.title = token.raw.replace(MARKS, "");
    } catch {
      place.replaceChildren();
      this.text(place, token.raw);
    }
  }
}
