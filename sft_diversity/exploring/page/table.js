// A list of samples as long as the corpus: only what is seen is read and drawn.
import { element, plain, settled, whole } from "./dom.js";

const HEIGHT = 60; // pixels a row; page.css has the same
const TALLEST = 8_000_000; // browsers stop at some 16 million pixels
const AHEAD = 6;
const REQUEST = 200; // rows a request
const CACHE = 5000;

/** The beginnings of samples, read once. */
export class Samples {
  constructor(source, strategy) {
    Object.assign(this, { source, strategy });
    this.held = new Map();
  }

  async get(rows) {
    const missing = rows.filter((row) => !this.held.has(row)).slice(0, REQUEST);
    if (missing.length) {
      if (this.held.size > CACHE) this.held.clear();
      for (const one of await this.source.samples(missing, this.strategy())) this.held.set(one.row, one);
    }
    return rows.map((row) => this.held.get(row));
  }
}

export class Table extends EventTarget {
  constructor(place, tall, samples) {
    super();
    Object.assign(this, { place, tall, samples, rows: new Uint32Array(), at: 0, badge: () => ["", ""] });
    this.load = settled((rows) => this.read(rows), 40);
    place.addEventListener("scroll", () => this.draw());
    place.addEventListener("keydown", (event) => this.key(event));
    place.addEventListener("click", (event) => {
      const row = event.target.closest?.("[data-at]");
      if (row) this.open(Number(row.dataset.at));
    });
    new ResizeObserver(() => this.draw()).observe(place);
  }

  show(rows, keep = false) {
    this.rows = rows;
    this.at = keep ? Math.min(this.at, Math.max(rows.length - 1, 0)) : 0;
    this.tall.style.height = `${Math.min(rows.length * HEIGHT, TALLEST)}px`;
    if (!keep) this.place.scrollTop = 0;
    this.draw();
  }

  /** The first row that is seen, and where on the tall sheet it stands. */
  first() {
    const top = this.place.scrollTop;
    const total = this.rows.length * HEIGHT;
    if (total <= TALLEST) return [Math.floor(top / HEIGHT), 0];
    const room = TALLEST - this.place.clientHeight;
    const first = Math.floor((top / room) * (this.rows.length - this.place.clientHeight / HEIGHT));
    return [first, top - first * HEIGHT];
  }

  draw() {
    const [first, shift] = this.first();
    const many = Math.ceil(this.place.clientHeight / HEIGHT) + 1;
    const start = Math.max(0, first - (shift ? 0 : AHEAD));
    const end = Math.min(this.rows.length, first + many + AHEAD);
    const lines = [];
    const missing = [];
    for (let at = start; at < end; at += 1) {
      const row = this.rows[at];
      if (!this.samples.held.has(row)) missing.push(row);
      lines.push(this.line(at, row, at * HEIGHT + shift));
    }
    this.tall.replaceChildren(...lines);
    this.activate();
    if (missing.length) this.load(missing);
  }

  async read(rows) {
    try {
      await this.samples.get(rows);
    } catch (fault) {
      this.dispatchEvent(new CustomEvent("fault", { detail: fault }));
      return;
    }
    this.draw();
  }

  line(at, row, top) {
    const one = this.samples.held.get(row);
    const [sign, word] = this.badge(row);
    const made = element("div", {
      id: `row-${at}`, className: "row", role: "option", "aria-selected": String(at === this.at),
      "aria-setsize": this.rows.length, "aria-posinset": at + 1,
    });
    made.dataset.at = at;
    made.style.top = `${top}px`;
    const mark = element("span", { className: `sign ${sign}`, role: "img", "aria-label": word, title: word });
    if (!one) {
      made.append(element("span", { className: "meta" }, mark, "…"));
      return made;
    }
    const text = (words) => plain(words.slice(0, 400).replace(/\s+/g, " "));
    const tokens = one.response_tokens === undefined || one.response_tokens === null ? "" :
      `${whole(one.instruction_tokens)} + ${whole(one.response_tokens)} tokens`;
    const missing = one.missing ? "Its text is not in this file." : null;
    made.append(
      element("span", { className: "meta" }, mark,
        element("span", { className: "source", dir: "auto" }, plain(one.source ?? "")),
        element("span", { className: "count" }, tokens)),
      element("span", { className: "said", dir: "auto" }, missing ?? text(one.instruction)),
      element("span", { className: "soft", dir: "auto" }, text(one.response)));
    return made;
  }

  activate() {
    const active = this.tall.querySelector(`#row-${this.at}`);
    if (active) this.place.setAttribute("aria-activedescendant", active.id);
    else this.place.removeAttribute("aria-activedescendant");
  }

  move(at) {
    if (!this.rows.length) return;
    this.at = Math.min(Math.max(at, 0), this.rows.length - 1);
    const total = this.rows.length * HEIGHT;
    const shrunk = Math.min(1, (TALLEST - this.place.clientHeight) / Math.max(total - this.place.clientHeight, 1));
    const top = this.at * HEIGHT * shrunk;
    const room = this.place.clientHeight - HEIGHT;
    if (shrunk < 1) this.place.scrollTop = top;
    else if (top < this.place.scrollTop) this.place.scrollTop = top;
    else if (top > this.place.scrollTop + room) this.place.scrollTop = top - room;
    this.draw();
    this.dispatchEvent(new CustomEvent("active", { detail: this.rows[this.at] }));
  }

  open(at) {
    this.move(at);
    this.dispatchEvent(new CustomEvent("open", { detail: this.rows[this.at] }));
  }

  /** The row after or before one, in the order of the list. */
  beside(row, step) {
    const at = this.rows[this.at] === row ? this.at : this.rows.indexOf(row);
    return at < 0 ? -1 : at + step;
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.place.clientHeight / HEIGHT) - 1);
    const keys = {
      ArrowDown: () => this.move(this.at + 1),
      ArrowUp: () => this.move(this.at - 1),
      PageDown: () => this.move(this.at + page),
      PageUp: () => this.move(this.at - page),
      Home: () => this.move(0),
      End: () => this.move(this.rows.length - 1),
      Enter: () => this.rows.length && this.open(this.at),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  }
}
