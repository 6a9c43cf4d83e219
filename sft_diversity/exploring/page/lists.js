// Which samples the table shows: tabs, what is in view, and what can be done with all of them.
import { byId, element, percent, whole } from "./dom.js";

const TABS = {
  picked: "Picked", entered: "Entered", left: "Left", lasso: "Lasso", search: "Search", nearest: "Nearest",
};
const EMPTY = {
  picked: "Nothing is picked yet.",
  entered: "Nothing entered with the last change. Turn the dial.",
  left: "Nothing left with the last change. Turn the dial.",
  lasso: "Draw around points with Lasso (or Shift and drag), or take what is in view.",
  search: "Type above to search all samples.",
  nearest: "Open a sample and press Nearest.",
};
const ACTED = ["lasso", "search", "nearest", "entered", "left"];

export class Lists {
  constructor(table, { live, view, name, quota }) {
    Object.assign(this, { table, live, view, name, quota, tab: "picked", total: null });
    this.rows = Object.fromEntries(Object.keys(TABS).map((tab) => [tab, new Uint32Array()]));
    const shown = Object.keys(TABS).filter((tab) => live || tab !== "nearest");
    this.tabs = new Map(shown.map((tab) => [tab, element("button", {
      type: "button", role: "tab", id: `tab-${tab}`, "aria-controls": "rows", onclick: () => this.choose(tab),
    }, TABS[tab], element("small"))]));
    const place = byId("tabs");
    place.replaceChildren(...this.tabs.values());
    place.addEventListener("keydown", (event) => this.key(event));
    this.seen = element("input", { type: "checkbox", id: "in-view", onchange: () => this.show() });
    this.draw();
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const names = [...this.tabs.keys()];
    const next = names[(names.indexOf(this.tab) + step + names.length) % names.length];
    this.choose(next);
    this.tabs.get(next).focus();
  }

  set(tab, rows, total = null) {
    this.rows[tab] = rows;
    if (tab === "search") this.total = total;
    if (tab === this.tab) this.show(["picked", "entered", "left"].includes(tab));
    else this.draw();
  }

  choose(tab) {
    this.tab = tab;
    this.show();
  }

  /** Draw the list anew; where only what is in view is wanted, without what is not. */
  show(keep = false) {
    const all = this.rows[this.tab];
    this.shown = this.seen.checked ? all.filter((row) => this.view(row)) : all;
    this.table.show(this.shown, keep);
    this.draw();
  }

  /** The view moved. */
  viewed() {
    if (this.seen.checked) this.show(true);
  }

  draw() {
    for (const [tab, button] of this.tabs) {
      const many = this.rows[tab].length;
      button.lastChild.textContent = many ? whole(many) : "–";
      button.setAttribute("aria-selected", String(tab === this.tab));
      button.tabIndex = tab === this.tab ? 0 : -1;
    }
    const rows = this.shown ?? this.rows[this.tab];
    byId("empty").hidden = rows.length > 0;
    byId("empty").textContent = this.seen.checked && this.rows[this.tab].length
      ? "None of these is in view." : this.tab === "search" && this.total === 0 ? "Nothing found." : EMPTY[this.tab];
    const button = (label, title, work) => element("button", { type: "button", title, onclick: () => work(rows) }, label);
    const acts = this.live && rows.length && ACTED.includes(this.tab) ? [
      button("Must include", "Every subset holds these", () => this.name("must_include", rows)),
      button("Exclude", "These are never picked", () => this.name("exclude", rows)),
      button("Quota", "Hold the sources in the shares that they have here", () => this.quota(rows)),
    ] : [];
    const more = this.tab === "search" && this.total > this.rows.search.length
      ? element("span", { className: "soft" }, `of ${whole(this.total)}`) : null;
    byId("acts").replaceChildren(
      element("label", { className: "check" }, this.seen, "in view"), ...(more ? [more] : []),
      element("span", { className: "gap" }), ...acts);
  }
}

/** A quota that holds sources in the shares that they have among these samples. */
export function quotaOf(labels, codes, rows) {
  const counts = new Map();
  for (const row of rows) counts.set(codes[row], (counts.get(codes[row]) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1])
    .map(([code, many]) => `${labels[code]}:${Number((many / rows.length).toFixed(4))}`);
  return `source=${parts.join(",")}`;
}

/** A line that says what a selection is, beside chance, and what changed. */
export function resultLine({ figures, seconds }, { entered, left, against }) {
  const parts = [];
  if (figures.kinds_covered !== null && figures.kinds_covered !== undefined) {
    const chance = figures.random_kinds ? `, as many random samples ${whole(figures.random_kinds)}` : "";
    parts.push(`${whole(figures.kinds_covered)} of ${whole(figures.kinds_total)} kinds${chance}`);
  } else {
    parts.push(`${whole(figures.rows)} samples`);
  }
  const change = against === "A" ? ["not in A", "only in A"] : ["entered", "left"];
  if (entered || left) parts.push(`${whole(entered)} ${change[0]}, ${whole(left)} ${change[1]}`);
  if (figures.share_with_kind !== null && figures.share_with_kind < 0.8) {
    parts.push(`only ${percent(figures.share_with_kind)} of the samples hold a kind`);
  }
  parts.push(`${seconds.toFixed(2)} s`);
  return parts.join(" · ");
}
