// The page: settings change, the newest selection is asked for, and all views show what came.
import { Controls, described, isLevel } from "./controls.js";
import { ENTERED, LEFT, MapView, PICKED, word } from "./map.js";
import { FIGURES, curve, figures, lengths, sources } from "./charts.js";
import { Home } from "./home.js";
import { Lists, quotaOf, resultLine } from "./lists.js";
import { Newest, Store } from "./store.js";
import { SamplePanel } from "./sample.js";
import { Samples, Table } from "./table.js";
import { byId, duration, element, percent, plain, settled, whole } from "./dom.js";
import { classed, signs } from "./colours.js";
import { opened } from "./source.js";
import { showKeys } from "./keys.js";

const NEAREST = 50;
const REMEMBER = 200_000; // characters of settings kept for a reload

class Page {
  constructor(source, corpus) {
    Object.assign(this, { source, corpus, figure: "kinds", told: null, line: null, kept: null });
    this.memory = `sftdiv ${corpus.digest}`;
    this.store = new Store(this.remembered());
    this.now = new Uint8Array(corpus.n); // 1: picked
    this.before = new Uint8Array(corpus.n);
    this.picks = new Uint32Array();
    this.step = -1;
    this.columns = new Map();
    this.only = -1;
    this.samples = new Samples(source, () => this.store.settings.strategy);
    this.table = new Table(byId("rows"), byId("tall"), this.samples);
    this.table.badge = (row) => this.badge(row);
    this.map = new MapView(byId("stage"), byId("points"), byId("signs"));
    this.map.state = (row) => this.now[row] === 1 || this.before[row] === 1;
    this.lists = new Lists(this.table, {
      live: source.live,
      view: (row) => this.map.places?.inBox(this.map.box(), row) ?? false,
      name: (list, rows) => this.name(list, [...rows], true),
      quota: (rows) => this.quotaOf(rows),
    });
    this.panel = new SamplePanel(byId("sample"), source, {
      badge: (row) => this.badge(row, true),
      beside: (row, step) => this.beside(row, step),
      closed: () => this.closed(),
      isPicked: (row) => this.now[row] === 1,
      name: (list, rows, on) => this.name(list, rows, on),
      nearest: (row) => this.nearest(row),
      settings: () => this.store.settings,
    });
    this.home = new Home(source, () => this.store.settings);
    this.selecting = new Newest(
      async ([settings, step], signal) => ({ ...(await source.select(settings, signal)), settings, step }),
      (picture) => this.show(picture), (fault) => this.fail(fault));
    this.bending = new Newest(
      (settings, signal) => source.curve(settings, signal),
      (line, settings) => this.bent(line, settings), (fault) => this.bent(null, null, fault));
    this.bend = settled(() => this.bending.ask(this.store.settings), 200);
    this.speak = settled((text) => (byId("result").textContent = text), 250);
    this.prepare();
  }

  remembered() {
    try {
      const held = JSON.parse(sessionStorage.getItem(this.memory));
      if (held && this.source.live) return { ...this.corpus.settings, ...held };
    } catch {
      // what lies there is not ours: begin anew
    }
    return { ...this.corpus.settings };
  }

  remember() {
    const text = JSON.stringify(this.store.settings);
    if (!this.source.live || text.length > REMEMBER) return;
    try {
      sessionStorage.setItem(this.memory, text);
    } catch {
      // no storage: a reload begins anew
    }
  }

  prepare() {
    const { corpus, source } = this;
    document.title = `${plain(corpus.name)} – sftdiv explore`;
    byId("name").textContent = plain(corpus.name);
    const many = corpus.sources.length;
    byId("about").textContent = `${whole(corpus.n)} samples, ${many} ${many === 1 ? "source" : "sources"}`;
    document.body.classList.toggle("still", !source.live);
    if (source.live) this.controls = new Controls(byId("controls"), corpus, this.store);
    else described(byId("controls"), corpus.settings);
    source.progress = (told) => this.progress(told);
    this.prepareDial();
    this.prepareMap();
    this.prepareLists();
    byId("undo").addEventListener("click", () => this.store.undo());
    byId("redo").addEventListener("click", () => this.store.redo());
    byId("keep").addEventListener("click", () => this.keep());
    byId("help").addEventListener("click", () => showKeys());
    document.addEventListener("keydown", (event) => this.key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.map.recolour();
      this.paint();
      this.mark();
    });
    this.store.addEventListener("change", () => this.changed());
    this.changed();
    this.lay();
  }

  prepareDial() {
    const turn = (input) => input.addEventListener("input", () => {
      const value = Number(input.value);
      if (input.value !== "" && value >= 0 && value <= 100) this.turn(value);
    });
    const positions = this.source.data?.positions;
    if (positions) byId("diversity").step = byId("percent").step = positions[1] - positions[0];
    turn(byId("diversity"));
    turn(byId("percent"));
    new ResizeObserver(() => this.drawCurve()).observe(byId("curve"));
  }

  turn(diversity) {
    this.store.set({ diversity: Math.min(100, Math.max(0, diversity)) }, true);
  }

  prepareMap() {
    const { map } = this;
    const select = byId("colour-by");
    select.replaceChildren(
      element("option", { value: "" }, "what is picked"),
      ...this.corpus.columns.map(({ name }) => element("option", { value: name }, name.replaceAll("_", " "))));
    select.addEventListener("change", () => {
      this.only = -1;
      this.paint();
      this.mark();
    });
    const lasso = byId("lasso");
    lasso.addEventListener("click", () => {
      map.lassoing = !map.lassoing;
      lasso.setAttribute("aria-pressed", String(map.lassoing));
      byId("stage").classList.toggle("lassoing", map.lassoing);
    });
    byId("take-view").addEventListener("click", () => map.places && this.lassoed(map.places.inside(map.box())));
    byId("nearer").addEventListener("click", () => map.zoom(1.5));
    byId("farther").addEventListener("click", () => map.zoom(1 / 1.5));
    byId("fit").addEventListener("click", () => map.fit());
    map.addEventListener("lasso", ({ detail }) => this.lassoed(detail));
    map.addEventListener("open", ({ detail }) => this.open(detail, true));
    map.addEventListener("hover", ({ detail }) => this.hover(detail));
    map.addEventListener("view", settled(() => this.lists.viewed(), 150));
  }

  prepareLists() {
    this.table.addEventListener("open", ({ detail }) => this.open(detail, true));
    this.table.addEventListener("active", ({ detail }) => this.map.show(detail));
    this.table.addEventListener("fault", ({ detail }) => this.fail(detail));
    const search = settled(() => this.search(), 250);
    byId("search").addEventListener("input", search);
    byId("search-in").addEventListener("change", search);
    byId("search").addEventListener("keydown", (event) => {
      if (event.key === "Enter") byId("rows").focus();
      if (event.key === "Escape") event.target.blur();
    });
  }

  async lay() {
    const { map, corpus, source } = this;
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

  changed() {
    const { settings, step } = this.store;
    byId("undo").disabled = !this.store.past.length;
    byId("redo").disabled = !this.store.future.length;
    this.controls?.show();
    this.showDial();
    this.remember();
    this.selecting.ask([settings, step]);
    const { diversity, ...rest } = settings;
    const key = JSON.stringify(rest);
    if (key !== this.bentFor) {
      this.bentFor = key;
      this.stale = true;
      if (isLevel(settings.strategy)) this.bend();
      else this.line = null;
      this.drawCurve();
    }
  }

  showDial() {
    const { settings } = this.store;
    const turns = isLevel(settings.strategy);
    const dial = byId("diversity");
    dial.value = settings.diversity;
    dial.style.setProperty("--at", settings.diversity / 100);
    dial.disabled = byId("percent").disabled = !turns;
    dial.setAttribute("aria-valuetext", `${settings.diversity} percent`);
    if (document.activeElement !== byId("percent") || Number(byId("percent").value) !== settings.diversity) {
      byId("percent").value = Number(settings.diversity.toFixed(2));
    }
    byId("curve").hidden = dial.hidden = !turns;
    if (!turns) byId("chance").textContent = "This strategy has no dial.";
  }

  bent(line, settings, fault) {
    if (settings) {
      const { diversity, ...rest } = settings;
      if (JSON.stringify(rest) !== this.bentFor) return;
    }
    this.line = line;
    this.stale = false;
    if (fault) byId("curve-name").textContent = fault.message;
    this.drawFigures();
    this.drawCurve();
  }

  show({ told, rows, settings, step }) {
    if (step !== this.step) {
      this.step = step;
      if (this.told) this.before = this.now.slice();
    }
    const fresh = this.told === null;
    this.told = { ...told, beside: withMean(told) };
    this.picks = rows;
    this.now.fill(0);
    for (const row of rows) this.now[row] = 1;
    if (fresh) {
      this.before = this.now.slice();
      this.samples.held.clear(); // lengths are known from the first selection on
    }
    this.shownFor = settings;
    this.controls?.fault(null);
    this.controls?.ready(settings.strategy);
    this.compare();
    byId("keep").disabled = false;
    byId("chance").textContent = !isLevel(settings.strategy) ? "This strategy has no dial."
      : Number.isFinite(told.figures.random_percent)
        ? `as many random samples stand at ${told.figures.random_percent} %` : "";
    this.drawFigures();
    this.drawCurve();
    this.home.show(told);
    this.panel.refresh(this.store.settings);
    this.dispatch();
  }

  /** What differs from the setting before, or from A, on the map, in the lists and in a line. */
  compare() {
    const against = this.kept?.shown ? this.kept.mask : this.before;
    this.against = against;
    const entered = this.picks.filter((row) => !against[row]);
    const left = [];
    for (let row = 0; row < against.length; row += 1) if (against[row] && !this.now[row]) left.push(row);
    this.left = Uint32Array.from(left);
    this.entered = entered;
    this.lists.set("picked", this.picks);
    this.lists.set("entered", this.entered);
    this.lists.set("left", this.left);
    const change = { entered: entered.length, left: left.length, against: this.kept?.shown ? "A" : "" };
    if (this.told) this.speak(resultLine(this.told, change));
    this.mark();
  }

  badge(row, whole = false) {
    const [now, before] = [this.now[row], this.against?.[row]];
    const order = whole && now ? `, pick ${this.picks.indexOf(row) + 1}` : "";
    const a = this.kept?.shown;
    if (now && before) return ["picked", (a ? "in both" : "picked") + order];
    if (now) return ["entered", (a ? "not in A" : "entered") + order];
    if (before) return ["left", a ? "only in A" : "left"];
    return ["out", "not picked"];
  }

  mark() {
    if (!this.map.places || !this.told) return;
    const shades = signs();
    const parts = [
      [this.left, LEFT, shades.left],
      [this.picks.filter((row) => this.against[row]), PICKED, shades.picked],
      [this.entered, ENTERED, shades.entered],
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
    this.map.mark(rows, forms, new Uint8Array(colours.buffer));
    this.drawLegend();
  }

  async column(name) {
    const about = this.corpus.columns.find((one) => one.name === name);
    if (!this.columns.has(name)) this.columns.set(name, await this.source.column(name, about.sort));
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
        this.fail(fault);
      }
      if (byId("colour-by").value !== name) return;
    }
    this.classes = classes;
    const alpha = classes ? 0.6 : 0.75;
    this.map.paint({ classes, only: this.only, cloud, ground, alpha });
    this.mark();
  }

  drawLegend() {
    const a = this.kept?.shown;
    const states = [
      ["picked", a ? "in both" : "picked", this.picks.length - (this.entered?.length ?? 0), "picked"],
      ["entered", a ? "not in A" : "entered", this.entered?.length ?? 0, "entered"],
      ["left", a ? "only in A" : "left", this.left?.length ?? 0, "left"],
    ].map(([sign, name, many, tab]) => element("button", {
      type: "button", title: "Show in the list", onclick: () => this.lists.choose(tab),
    }, element("span", { className: `sign ${sign}${this.classes ? " bare" : ""}` }), `${name} ${whole(many)}`));
    const names = (this.classes?.entries ?? []).map(({ name, shade, many }, at) => {
      const key = element("span", { className: "sign key" });
      key.style.backgroundColor = `rgb(${shade.join(" ")})`;
      return element("button", {
        type: "button", "aria-pressed": String(this.only === at), title: "Only these in the light",
        onclick: () => {
          this.only = this.only === at ? -1 : at;
          this.paint();
        },
      }, key, element("span", { className: "word" }, plain(name)), many ? ` ${percent(many / this.corpus.n)}` : "");
    });
    const focused = [...byId("legend").children].indexOf(document.activeElement);
    byId("legend").replaceChildren(...states, ...names);
    if (focused >= 0) byId("legend").children[focused]?.focus();
  }

  drawFigures() {
    if (!this.told) return;
    const turns = isLevel(this.shownFor.strategy);
    figures(byId("figures"), {
      told: this.told, line: this.line, at: turns ? this.shownFor.diversity : null,
      kept: this.kept?.told, chosen: this.figure,
      choose: (name) => {
        this.figure = name;
        this.drawFigures();
        this.drawCurve();
      },
    });
    lengths(byId("lengths"), this.told.lengths, this.told.beside);
    sources(byId("sources"), this.told.beside, this.picks.length);
  }

  drawCurve() {
    const { settings } = this.store;
    const kept = this.kept && isLevel(this.kept.settings.strategy) ? this.kept.settings.diversity : null;
    const here = this.told?.beside.picked?.[this.figure] ?? null;
    const at = isLevel(settings.strategy) ? settings.diversity : null;
    const shown = this.shownFor?.diversity === settings.diversity ? here : null;
    curve(byId("curve"), {
      told: this.line, name: this.figure, random: this.told?.beside.random?.[this.figure],
      at, here: shown, kept, old: this.stale, turned: (value) => this.turn(value),
    });
    byId("curve-name").textContent = this.line ? `${FIGURES[this.figure].long} over the dial` : "";
  }

  progress(told) {
    byId("wait").hidden = !told;
    document.body.classList.toggle("waiting", Boolean(told));
    if (!told) return;
    if (told.share === null || told.share === undefined) byId("share").removeAttribute("value");
    else byId("share").value = told.share;
    const rest = told.seconds_left;
    byId("what").textContent = told.what + (rest ? `, about ${duration(rest)}` : "");
  }

  fail(fault) {
    if (this.controls) this.controls.fault(fault);
    this.speak(fault.message);
  }

  open(row, focus) {
    this.map.show(row);
    this.panel.show(row, this.store.settings, focus);
  }

  closed() {
    this.map.show(this.map.focused);
    byId("rows").focus({ preventScroll: true });
  }

  beside(row, step) {
    const at = this.table.beside(row, step);
    if (at < 0 || at >= this.table.rows.length) return;
    this.table.move(at);
    this.open(this.table.rows[at], false);
  }

  async hover({ row, at }) {
    const tip = byId("hover");
    tip.hidden = true;
    if (row < 0) return;
    let one;
    try {
      [one] = await this.samples.get([row]);
    } catch {
      return; // what is under the pointer is told again by the list or the panel
    }
    if (this.map.hovered !== row || !one) return;
    const [sign, word] = this.badge(row);
    tip.replaceChildren(
      element("span", { className: "meta" }, element("span", { className: `sign ${sign}` }),
        `${word} · ${plain(one.source ?? "")}`),
      element("span", { className: "said", dir: "auto" },
        one.missing ? "Its text is not in this file." : plain(one.instruction.slice(0, 220))));
    tip.hidden = false;
    const { width, height } = this.map.size;
    tip.style.left = `${Math.max(4, Math.min(at[0] + 14, width - tip.offsetWidth - 4))}px`;
    const below = at[1] + 16;
    tip.style.top = `${below + tip.offsetHeight > height ? Math.max(4, at[1] - tip.offsetHeight - 12) : below}px`;
  }

  lassoed(rows) {
    this.panel.close();
    this.lists.set("lasso", rows);
    this.lists.choose("lasso");
    this.map.lassoing = false;
    byId("lasso").setAttribute("aria-pressed", "false");
    byId("stage").classList.remove("lassoing");
  }

  async search() {
    const text = byId("search").value.trim();
    const where = byId("search-in").value;
    this.wanted = text + where;
    if (!text) {
      this.lists.set("search", new Uint32Array());
      return;
    }
    try {
      const { rows, total } = await this.source.search(text, where);
      if (this.wanted !== text + where) return;
      this.panel.close();
      this.lists.set("search", rows, total);
      this.lists.choose("search");
      this.speak(`${whole(total)} samples hold “${text}”`);
    } catch (fault) {
      this.fail(fault);
    }
  }

  async nearest(row) {
    try {
      const rows = await this.source.nearest(row, NEAREST, this.store.settings.strategy);
      this.panel.close();
      this.lists.set("nearest", rows);
      this.lists.choose("nearest");
    } catch (fault) {
      this.fail(fault);
    }
  }

  /** Put rows on a list of the settings, or take them off; no row is on both. */
  name(list, rows, on) {
    const { settings } = this.store;
    const named = new Set(rows);
    const other = list === "exclude" ? "must_include" : "exclude";
    const rowsOf = (name) => (Array.isArray(settings[name]) ? settings[name] : []);
    const without = (name) => rowsOf(name).filter((row) => !named.has(row));
    this.store.set({
      [list]: on ? [...without(list), ...rows] : without(list),
      [other]: on ? without(other) : settings[other],
    });
  }

  async quotaOf(rows) {
    const [about, codes] = await this.column("source");
    this.store.set({ quota: quotaOf(about.labels, codes, rows) });
    this.controls.limits.open = true;
  }

  keep() {
    const mask = this.now.slice();
    this.kept = { settings: this.shownFor, told: this.told, mask, shown: true };
    this.drawKept();
    this.compare();
    this.drawFigures();
    this.drawCurve();
  }

  swap() {
    if (!this.kept) return;
    const { settings } = this.kept;
    this.keep();
    this.store.set(settings);
  }

  drawKept() {
    const place = byId("kept");
    place.hidden = !this.kept;
    if (!this.kept) return;
    const { strategy, size, diversity } = this.kept.settings;
    const button = (name, work, pressed) => element("button", {
      type: "button", onclick: work, "aria-pressed": pressed === undefined ? null : String(pressed),
    }, name);
    const turn = isLevel(strategy) ? ` ${diversity} %` : "";
    place.replaceChildren(
      element("span", {}, element("b", {}, "A "), `${strategy}${turn}, ${whole(size)}`),
      button("Difference", () => {
        this.kept.shown = !this.kept.shown;
        this.drawKept();
        this.compare();
      }, this.kept.shown),
      button("Switch", () => this.swap()),
      button("Forget", () => {
        this.kept = null;
        this.drawKept();
        this.compare();
        this.drawFigures();
        this.drawCurve();
      }));
  }

  key(event) {
    const { target } = event;
    const typing = target.matches("textarea, select, input:not([type=range]):not([type=checkbox])");
    const undoing = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    if (typing || byId("keys").open) return;
    if (undoing) {
      event.preventDefault();
      if (event.shiftKey) this.store.redo();
      else this.store.undo();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { diversity } = this.store.settings;
    const step = Number(byId("diversity").step);
    const turn = (by) => byId("diversity").disabled || this.turn(diversity + by);
    const keys = {
      "[": () => turn(-step),
      "]": () => turn(step),
      "{": () => turn(-10),
      "}": () => turn(10),
      "/": () => byId("search").focus(),
      u: () => this.store.undo(),
      U: () => this.store.redo(),
      a: () => !byId("keep").disabled && this.keep(),
      s: () => this.swap(),
      l: () => byId("lasso").click(),
      v: () => byId("take-view").click(),
      f: () => this.map.fit(),
      d: () => byId("diversity").focus(),
      "?": () => showKeys(),
      Escape: () => (this.panel.open ? this.panel.close() : this.map.unlasso()),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** For whoever waits for a picture: measurements and tests. */
  dispatch() {
    const { shownFor: settings, told, picks } = this;
    document.dispatchEvent(new CustomEvent("picture", { detail: { settings, digest: told.digest, rows: picks } }));
  }
}

/** What is compared, with the mean of many random draws in place of what one came to. */
function withMean({ beside, figures: { random_kinds: kinds, kinds_total: total } }) {
  if (!kinds || !total) return beside;
  return { ...beside, random: { ...beside.random, kinds, coverage: kinds / total } };
}

async function begin() {
  const source = opened();
  try {
    const corpus = await source.corpus();
    globalThis.explored = new Page(source, corpus);
  } catch (fault) {
    byId("result").textContent = fault.message;
    throw fault;
  }
}

begin();
