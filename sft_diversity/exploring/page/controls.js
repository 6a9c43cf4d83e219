// The settings as a form: every change of a field is a change of the settings.
import { duration, element, plain, settled, whole } from "./dom.js";

const GROUPS = [
  ["Token types", "micro-"], ["Instruction units", "meso-"], ["Topic clusters", "macro-"],
];
const LOOSE = "Others";
const FREE = { match_length: "free", no_kind: "out" };
const WORDS = { corpus: "as the corpus", eligible: "as what may be picked" };

/** Fields beside the strategy: their name, what is said to them, and how they are filled in. */
const FIELDS = [
  { name: "size", label: "Size", sort: "number", min: 1, step: 1 },
  { name: "seed", label: "Seed", sort: "number", min: 0, step: 1 },
  { name: "objective", label: "Objective", sort: "choice" },
  { name: "fill", label: "Fill", sort: "choice" },
];
const LIMITED = [
  { name: "match_length", label: "Response lengths", sort: "choice", choices: ["", "corpus", "eligible"] },
  { name: "token_budget", label: "Response tokens", sort: "number", min: 1, step: 1, empty: "no budget" },
  { name: "quota", label: "Quota", sort: "text", empty: "source=corpus" },
  { name: "max_per_kind", label: "Most per kind", sort: "number", min: 1, step: 1, empty: "any" },
  { name: "quality", label: "Quality", sort: "text", empty: "column, or length" },
  { name: "quality_floor", label: "Worst out, %", sort: "number", min: 0, step: "any" },
];

export const isLevel = (strategy) => /^(macro|meso|micro)-|^own$/.test(strategy);

/** An option of the list of strategies, with what making it takes or why it cannot be made. */
function noted(option, { name, ready, seconds, why }) {
  const note = why ? ` – ${why}` : ready === false ? ` – to be made, ${duration(seconds)}` : "";
  option.textContent = name + note;
  option.disabled = Boolean(why);
  return option;
}

export class Controls {
  constructor(place, corpus, store) {
    Object.assign(this, { place, corpus, store, fields: new Map() });
    this.note = element("p", { className: "fault", id: "fault", role: "alert", hidden: true });
    this.lists = element("div", { className: "named" });
    const limits = LIMITED.filter(({ name }) => name in corpus.settings);
    this.limits = element("details", {},
      element("summary", {}, "Limits ", (this.held = element("small"))),
      element("div", { className: "fields" }, ...limits.map((one) => this.field(one))),
      this.lists);
    place.replaceChildren(
      this.strategies(),
      element("div", { className: "fields" }, ...FIELDS.map((one) => this.field(one))),
      this.limits, this.note);
    this.show();
  }

  strategies() {
    const groups = new Map([...GROUPS.map(([name]) => name), LOOSE].map((name) => [name, []]));
    for (const one of this.corpus.strategies) {
      const [group] = GROUPS.find(([, prefix]) => one.name.startsWith(prefix)) ?? [LOOSE];
      groups.get(group).push(one);
    }
    const select = element("select", { id: "set-strategy", onchange: () => this.become(select.value) },
      ...[...groups].filter(([, of]) => of.length).map(([label, of]) =>
        element("optgroup", { label }, ...of.map((one) => noted(element("option", { value: one.name }), one)))));
    this.fields.set("strategy", select);
    return element("label", { className: "wide" }, "Strategy", select);
  }

  /** A strategy is made: nothing is to be waited for any more. */
  ready(strategy) {
    this.learn([{ name: strategy, ready: true, why: null }]);
  }

  /** What was found out about strategies. */
  learn(strategies) {
    const options = new Map([...this.fields.get("strategy").options].map((one) => [one.value, one]));
    for (const one of strategies) if (options.has(one.name)) noted(options.get(one.name), one);
  }

  /** A strategy, and what of the settings contradicts it set free. */
  become(strategy) {
    const patch = { strategy };
    if (!strategy.startsWith("micro-")) patch.objective = "kinds";
    this.store.set(patch);
  }

  field({ name, label, sort, choices, empty, ...range }) {
    const id = `set-${name}`;
    let input;
    if (sort === "choice") {
      const listed = choices ?? this.corpus.choices[name] ?? [];
      const word = (one) => WORDS[one] ?? (one || FREE[name]);
      input = element("select", { id, onchange: () => this.store.set({ [name]: input.value || null }) },
        ...listed.map((one) => element("option", { value: one }, word(one))));
    } else {
      const read = () => {
        if (!input.checkValidity()) return;
        const text = input.value.trim();
        const filled = sort === "number" && text ? Number(text) : text;
        this.store.set({ [name]: text ? filled : this.corpus.settings[name] ?? null }, true);
      };
      const late = settled(read, 350);
      input = element("input", {
        id, type: sort, placeholder: empty ?? "", autocomplete: "off", spellcheck: false, ...range,
        oninput: late, onchange: read,
      });
      if (name === "size") input.max = this.corpus.n;
    }
    this.fields.set(name, input);
    return element("label", {}, label, input);
  }

  show() {
    const { settings } = this.store;
    for (const [name, input] of this.fields) {
      if (input === document.activeElement && input.tagName === "INPUT") {
        if (Number(input.value) === settings[name] || input.value === settings[name]) continue;
      }
      input.value = settings[name] ?? "";
    }
    const micro = settings.strategy.startsWith("micro-");
    this.fields.get("objective").disabled = !micro;
    this.fields.get("fill").disabled = !isLevel(settings.strategy);
    const set = LIMITED.filter(({ name }) =>
      name !== "quality_floor" && (settings[name] ?? null) !== (this.corpus.settings[name] ?? null));
    const held = set.length + ["must_include", "exclude"].filter((one) => settings[one]?.length).length;
    this.held.textContent = held ? `${held} set` : "none";
    this.showNamed();
  }

  showNamed() {
    const { settings } = this.store;
    const line = (name, label) => {
      const named = settings[name] ?? [];
      const many = Array.isArray(named) ? whole(named.length) : named;
      const free = element("button", {
        type: "button", "aria-label": `Clear ${label.toLowerCase()}`, onclick: () => this.store.set({ [name]: [] }),
      }, "Clear");
      return named.length ? element("p", { id: `named-${name}` }, `${label}: ${many} `, free) : null;
    };
    const lines = [line("must_include", "Must include"), line("exclude", "Exclude")];
    this.lists.replaceChildren(...lines.filter(Boolean));
  }

  /** Say what is wrong with the settings, beside the field that it lies in. */
  fault(fault) {
    this.note.hidden = !fault;
    this.note.textContent = fault?.message ?? "";
    for (const [name, input] of this.fields) {
      const wrong = fault?.field === name;
      if (wrong) input.setAttribute("aria-describedby", "fault");
      else input.removeAttribute("aria-describedby");
      input.setAttribute("aria-invalid", String(wrong));
    }
    if (LIMITED.some(({ name }) => name === fault?.field)) this.limits.open = true;
  }
}

/** What the settings are, in words, where they cannot be changed. */
export function described(place, settings) {
  const fields = [{ name: "strategy", label: "Strategy" }, ...FIELDS, ...LIMITED];
  const shown = settings.quality ? fields : fields.filter(({ name }) => name !== "quality_floor");
  const rows = shown
    .filter(({ name }) => settings[name] !== null && settings[name] !== undefined)
    .flatMap(({ name, label }) => [element("dt", {}, label), element("dd", {}, plain(String(settings[name])))]);
  place.replaceChildren(element("dl", {}, ...rows));
}
