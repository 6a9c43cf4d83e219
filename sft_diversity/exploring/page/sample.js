// One sample whole: its dialogue with the kinds marked, its columns, and why it is in or not.
import { element, plain, whole } from "./dom.js";

const MARKS = 4000; // marks that are drawn of one turn

/** Offsets count code points; a string of the browser counts those beyond U+FFFF twice. */
function placesOf(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (offset) => offset;
  const at = [0];
  for (const one of text) at.push(at.at(-1) + one.length);
  return (offset) => at[Math.min(offset, at.length - 1)];
}

/** Text as nodes, what lies between two offsets of a mark in a `mark` element with its name. */
export function marked(text, marks) {
  const place = placesOf(text);
  const nodes = [];
  let end = 0;
  for (const [from, to, kind] of marks.slice(0, MARKS)) {
    const [start, stop] = [place(from), place(to)];
    if (start < end || stop <= start) continue;
    if (start > end) nodes.push(plain(text.slice(end, start)));
    nodes.push(element("mark", { title: kind }, plain(text.slice(start, stop))));
    end = stop;
  }
  nodes.push(plain(text.slice(end)));
  return nodes;
}

export class SamplePanel {
  constructor(place, source, acts) {
    Object.assign(this, { place, source, acts, row: -1 });
    place.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
  }

  get open() {
    return this.row >= 0;
  }

  close() {
    if (!this.open) return;
    this.row = -1;
    this.place.hidden = true;
    this.acts.closed();
  }

  async show(row, settings, focus) {
    this.row = row;
    this.place.hidden = false;
    let sample;
    try {
      sample = await this.source.sample(row, settings.strategy);
    } catch (fault) {
      if (this.row === row) this.place.replaceChildren(this.head(), element("p", { className: "fault" }, fault.message));
      return;
    }
    if (this.row !== row) return;
    this.sample = sample;
    this.draw(settings);
    this.place.scrollTop = 0;
    if (focus) this.place.focus({ preventScroll: true });
  }

  head() {
    const button = (name, label, work, keys) =>
      element("button", { type: "button", onclick: work, "aria-label": label, "aria-keyshortcuts": keys, title: label }, name);
    return element("div", { className: "line head" },
      button("← List", "Back to the list", () => this.close(), "Escape"),
      element("span", { className: "gap" }),
      button("‹", "Previous sample", () => this.acts.beside(this.row, -1)),
      button("›", "Next sample", () => this.acts.beside(this.row, 1)));
  }

  draw(settings) {
    const { sample } = this;
    const roles = { user: "Instruction", assistant: "Response" };
    const turn = ({ role, text, marks, name, ...more }) => {
      const said = plain(roles[role] ?? role) + (name ? ` (${plain(name)})` : "");
      const others = Object.entries(more).filter(([, value]) => value).flatMap(([what, value]) => [
        element("h3", {}, plain(what.replaceAll("_", " "))),
        element("div", { className: "text soft", dir: "auto" },
          plain(typeof value === "string" ? value : JSON.stringify(value, null, 1))),
      ]);
      const words = element("div", { className: "text", dir: "auto" }, ...marked(text, marks));
      return [...others, element("h3", {}, said), words];
    };
    const rest = Object.entries(sample.columns ?? {}).filter(([, value]) => value !== null);
    const shown = sample.turns.reduce((sum, { text }) => sum + [...text].length, 0);
    const cut = sample.total_characters > shown;
    this.why = element("div", { className: "why", "aria-live": "polite" });
    this.steer = element("div", { className: "line steer" });
    this.place.replaceChildren(
      this.head(),
      (this.badge = element("p", { className: "standing" })),
      this.steer,
      this.why,
      ...sample.turns.flatMap(turn),
      cut ? element("p", { className: "soft" },
        `Cut: ${whole(shown)} of ${whole(sample.total_characters)} characters are shown.`) : "",
      sample.missing || (sample.cut && !this.source.live) ? element("p", { className: "soft" },
        sample.missing ? "This file does not hold its text." : "This file holds the beginning alone.") : "",
      element("dl", { className: "columns" },
        ...[["source", sample.source], ["id", sample.id], ...rest].flatMap(([name, value]) => [
          element("dt", {}, plain(name)),
          element("dd", { dir: "auto" }, plain(typeof value === "string" ? value : JSON.stringify(value)).slice(0, 500)),
        ])));
    this.refresh(settings);
  }

  /** What hangs on the settings: where it stands, why, and what can be done with it. */
  async refresh(settings) {
    if (!this.open || this.sample?.row !== this.row) return;
    const { row } = this;
    const [sign, word] = this.acts.badge(row);
    this.badge.replaceChildren(element("span", { className: `sign ${sign}` }), word);
    const named = (list) => Array.isArray(settings[list]) && settings[list].includes(row);
    const toggle = (list, set, free) =>
      element("button", { type: "button", "aria-pressed": String(named(list)), onclick: () => this.acts.name(list, [row], !named(list)) },
        named(list) ? free : set);
    this.steer.replaceChildren(...(this.source.live ? [
      toggle("must_include", "Must include", "Must be in ✓"),
      toggle("exclude", "Exclude", "Excluded ✓"),
      element("button", { type: "button", onclick: () => this.acts.nearest(row) }, "Nearest"),
    ] : []));
    if (!this.source.live) return;
    this.why.classList.add("old");
    this.stop?.abort();
    this.stop = new AbortController();
    let lines;
    try {
      ({ lines } = await this.source.explain(settings, row, this.stop.signal));
    } catch (fault) {
      if (fault.name === "AbortError") return;
      lines = [fault.message];
    }
    if (this.row !== row || settings !== this.acts.settings()) return;
    this.why.classList.remove("old");
    this.why.replaceChildren(
      element("h3", {}, this.acts.isPicked(row) ? "Why it is in" : "Why it is not in"),
      ...lines.map((line) => element("p", {}, plain(line))));
  }
}
