// How samples look on the map: signs, colours, the legend, and what is said under the pointer.
import { ENTERED, LEFT, PICKED, word } from "./map.js";
import { byId, duration, element, percent, plain, whole } from "./dom.js";
import { classed, signs } from "./colours.js";

export class Looks {
  constructor(page) {
    Object.assign(this, { page, columns: new Map(), only: -1, classes: null });
    const select = byId("colour-by");
    select.replaceChildren(
      element("option", { value: "" }, "what is picked"),
      ...page.corpus.columns.map(({ name }) => element("option", { value: name }, name.replaceAll("_", " "))));
    select.addEventListener("change", () => this.choose(-1));
    page.map.addEventListener("hover", ({ detail }) => this.hover(detail));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      page.map.recolour();
      this.paint();
    });
  }

  /** Leave one class of the colours in the light, or with −1 all. */
  choose(only) {
    this.only = only;
    this.paint();
  }

  async lay() {
    const { map, corpus, source } = this.page;
    const note = byId("map-note");
    note.textContent = corpus.map.ready ? "" : `The map is laid out, about ${duration(corpus.map.seconds ?? 0)}.`;
    try {
      const places = await source.places();
      const told = corpus.map.ready ? corpus : await source.corpus();
      map.lay(places, told.map.regions ?? []);
      note.textContent = "";
      byId("stage").dataset.drawn = map.renderer.name;
      this.paint();
      this.mark();
    } catch (fault) {
      note.textContent = `No map: ${fault.message}`;
    }
  }

  mark() {
    if (!this.page.map.places || !this.page.told) return;
    const shades = signs();
    const parts = [
      [this.page.left, LEFT, shades.left],
      [this.page.picks.filter((row) => this.page.against[row]), PICKED, shades.picked],
      [this.page.entered, ENTERED, shades.entered],
    ];
    const many = parts.reduce((sum, [rows]) => sum + rows.length, 0);
    const rows = new Uint32Array(many);
    const forms = new Uint8Array(many);
    const colours = new Uint32Array(many);
    const lit = (at) => (this.only < 0 || this.only === at ? 1 : 0.15);
    const tints = this.classes?.entries.map(({ shade }, at) => word(shade, lit(at)));
    let at = 0;
    for (const [part, form, shade] of parts) {
      const own = word(shade, 1);
      for (const row of part) {
        rows[at] = row;
        forms[at] = form;
        colours[at] = tints ? tints[this.classes.of(row)] : own;
        at += 1;
      }
    }
    this.page.map.mark(rows, forms, new Uint8Array(colours.buffer));
    this.drawLegend();
  }

  async column(name) {
    const about = this.page.corpus.columns.find((one) => one.name === name);
    if (!this.columns.has(name)) this.columns.set(name, await this.page.source.column(name, about.sort));
    return [about, this.columns.get(name)];
  }

  async paint() {
    const name = byId("colour-by").value;
    const { cloud, ground } = signs();
    let classes = null;
    if (name) {
      try {
        classes = classed(...(await this.column(name)));
      } catch (fault) {
        this.page.fail(fault);
      }
      if (byId("colour-by").value !== name) return;
    }
    this.classes = classes;
    const alpha = classes ? 0.6 : 0.75;
    this.page.map.paint({ classes, only: this.only, cloud, ground, alpha });
    this.mark();
  }

  drawLegend() {
    const a = this.page.kept.shown;
    const states = [
      ["picked", a ? "in both" : "picked", this.page.picks.length - (this.page.entered?.length ?? 0), "picked"],
      ["entered", a ? "not in A" : "entered", this.page.entered?.length ?? 0, "entered"],
      ["left", a ? "only in A" : "left", this.page.left?.length ?? 0, "left"],
    ].map(([sign, name, many, tab]) => element("button", {
      type: "button", title: "Show in the list", onclick: () => this.page.lists.choose(tab),
    }, element("span", { className: `sign ${sign}${this.classes ? " bare" : ""}` }), `${name} ${whole(many)}`));
    const names = (this.classes?.entries ?? []).map(({ name, shade, many }, at) => {
      const key = element("span", { className: "sign key" });
      key.style.backgroundColor = `rgb(${shade.join(" ")})`;
      return element("button", {
        type: "button", "aria-pressed": String(this.only === at), title: "Only these in the light",
        onclick: () => this.choose(this.only === at ? -1 : at),
      }, key, element("span", { className: "word" }, plain(name)), many ? ` ${percent(many / this.page.corpus.n)}` : "");
    });
    const focused = [...byId("legend").children].indexOf(document.activeElement);
    byId("legend").replaceChildren(...states, ...names);
    if (focused >= 0) byId("legend").children[focused]?.focus();
  }

  async hover({ row, at }) {
    const tip = byId("hover");
    tip.hidden = true;
    if (row < 0) return;
    let one;
    try {
      [one] = await this.page.samples.get([row]);
    } catch {
      return; // what is under the pointer is told again by the list or the panel
    }
    if (this.page.map.hovered !== row || !one) return;
    const [sign, word] = this.page.badge(row);
    tip.replaceChildren(
      element("span", { className: "meta" }, element("span", { className: `sign ${sign}` }),
        `${word} · ${plain(one.source ?? "")}`),
      element("span", { className: "said", dir: "auto" },
        one.missing ? "Its text is not in this file." : plain(one.instruction.slice(0, 220))));
    tip.hidden = false;
    const { width, height } = this.page.map.size;
    tip.style.left = `${Math.max(4, Math.min(at[0] + 14, width - tip.offsetWidth - 4))}px`;
    const below = at[1] + 16;
    tip.style.top = `${below + tip.offsetHeight > height ? Math.max(4, at[1] - tip.offsetHeight - 12) : below}px`;
  }
}
