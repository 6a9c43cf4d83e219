// The page: settings change, the newest selection is asked for, and all views show what came.
import { Controls, described, isLevel } from "./controls.js";
import { FIGURES, curve, figures, lengths, sources } from "./charts.js";
import { Home } from "./home.js";
import { Kept } from "./kept.js";
import { Lists, resultLine } from "./lists.js";
import { Looks } from "./looks.js";
import { MapView } from "./map.js";
import { Newest, Store } from "./store.js";
import { SamplePanel } from "./sample.js";
import { Samples, Table } from "./table.js";
import { Steering } from "./steering.js";
import { byId, duration, plain, settled, whole } from "./dom.js";
import { listenKeys, showKeys } from "./keys.js";
import { opened } from "./source.js";

const REMEMBER = 200_000; // characters of settings kept for a reload

class Page {
  constructor(source, corpus) {
    Object.assign(this, { source, corpus, figure: "kinds", told: null, line: null });
    this.memory = `sftdiv ${globalThis.location.pathname}`; // has the token: a reload of this page alone
    this.store = new Store(this.remembered());
    this.now = new Uint8Array(corpus.n); // 1: picked
    this.before = new Uint8Array(corpus.n);
    this.picks = new Uint32Array();
    this.step = -1;
    this.samples = new Samples(source, () => this.store.settings.strategy);
    this.table = new Table(byId("rows"), byId("tall"), this.samples);
    this.table.badge = (row) => this.badge(row);
    this.map = new MapView(byId("stage"), byId("points"), byId("signs"));
    this.map.state = (row) => this.now[row] === 1 || this.before[row] === 1;
    this.lists = new Lists(this.table, {
      live: source.live,
      view: (row) => this.map.places?.inBox(this.map.box(), row) ?? false,
      name: (list, rows) => this.steering.name(list, [...rows], true),
      quota: (rows) => this.steering.quotaOf(rows),
    });
    this.panel = new SamplePanel(byId("sample"), source, {
      badge: (row) => this.badge(row, true),
      beside: (row, step) => this.beside(row, step),
      closed: () => this.closed(),
      isPicked: (row) => this.now[row] === 1,
      name: (list, rows, on) => this.steering.name(list, rows, on),
      nearest: (row) => this.steering.nearest(row),
      settings: () => this.store.settings,
    });
    this.steering = new Steering(this);
    this.looks = new Looks(this);
    this.kept = new Kept(this);
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
    byId("help").addEventListener("click", () => showKeys());
    listenKeys(this);
    this.store.addEventListener("change", () => this.changed());
    this.changed();
    this.looks.lay();
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
    byId("nearer").addEventListener("click", () => map.zoom(1.5));
    byId("farther").addEventListener("click", () => map.zoom(1 / 1.5));
    byId("fit").addEventListener("click", () => map.fit());
    map.addEventListener("open", ({ detail }) => this.open(detail, true));
    map.addEventListener("view", settled(() => this.lists.viewed(), 150));
  }

  prepareLists() {
    this.table.addEventListener("open", ({ detail }) => this.open(detail, true));
    this.table.addEventListener("active", ({ detail }) => this.map.show(detail));
    this.table.addEventListener("fault", ({ detail }) => this.fail(detail));
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
      this.learn();
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

  /** Where the server did not say at once which strategies are made, ask now. */
  async learn() {
    if (!this.controls || !this.corpus.strategies.some(({ ready }) => ready === null)) return;
    try {
      this.controls.learn(await this.source.strategies());
    } catch (fault) {
      this.fail(fault);
    }
  }

  /** What differs from the setting before, or from A, on the map, in the lists and in a line. */
  compare() {
    const against = this.kept.shown ? this.kept.mask : this.before;
    this.against = against;
    const entered = this.picks.filter((row) => !against[row]);
    const left = [];
    for (let row = 0; row < against.length; row += 1) if (against[row] && !this.now[row]) left.push(row);
    this.left = Uint32Array.from(left);
    this.entered = entered;
    this.lists.set("picked", this.picks);
    this.lists.set("entered", this.entered);
    this.lists.set("left", this.left);
    const change = { entered: entered.length, left: left.length, against: this.kept.shown ? "A" : "" };
    if (this.told) this.speak(resultLine(this.told, change));
    this.looks.mark();
  }

  badge(row, whole = false) {
    const [now, before] = [this.now[row], this.against?.[row]];
    const order = whole && now ? `, pick ${this.picks.indexOf(row) + 1}` : "";
    const a = this.kept.shown;
    if (now && before) return ["picked", (a ? "in both" : "picked") + order];
    if (now) return ["entered", (a ? "not in A" : "entered") + order];
    if (before) return ["left", a ? "only in A" : "left"];
    return ["out", "not picked"];
  }

  drawFigures() {
    if (!this.told) return;
    const turns = isLevel(this.shownFor.strategy);
    figures(byId("figures"), {
      told: this.told, line: this.line, at: turns ? this.shownFor.diversity : null,
      kept: this.kept.told, chosen: this.figure,
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
    const here = this.told?.beside.picked?.[this.figure] ?? null;
    const at = isLevel(settings.strategy) ? settings.diversity : null;
    const shown = this.shownFor?.diversity === settings.diversity ? here : null;
    curve(byId("curve"), {
      told: this.line, name: this.figure, random: this.told?.beside.random?.[this.figure],
      at, here: shown, kept: this.kept.diversity, old: this.stale, turned: (value) => this.turn(value),
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
