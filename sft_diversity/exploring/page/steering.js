// From what was found to the settings: lasso, search, nearest; must include, exclude, quota.
import { byId, settled, whole } from "./dom.js";
import { quotaOf } from "./lists.js";

const NEAREST = 50;

export class Steering {
  constructor(page) {
    Object.assign(this, { page, wanted: "" });
    const { map } = page;
    byId("lasso").addEventListener("click", () => this.lassoing(!map.lassoing));
    byId("take-view").addEventListener("click", () => map.places && this.lassoed(map.places.inside(map.box())));
    map.addEventListener("lasso", ({ detail }) => this.lassoed(detail));
    const search = settled(() => this.search(), 250);
    byId("search").addEventListener("input", search);
    byId("search-in").addEventListener("change", search);
    byId("search").addEventListener("keydown", (event) => {
      if (event.key === "Enter") byId("rows").focus();
      if (event.key === "Escape") event.target.blur();
    });
  }

  lassoing(on) {
    this.page.map.lassoing = on;
    byId("lasso").setAttribute("aria-pressed", String(on));
    byId("stage").classList.toggle("lassoing", on);
  }

  lassoed(rows) {
    this.page.panel.close();
    this.page.lists.set("lasso", rows);
    this.page.lists.choose("lasso");
    this.lassoing(false);
  }

  async search() {
    const text = byId("search").value.trim();
    const where = byId("search-in").value;
    this.wanted = text + where;
    if (!text) {
      this.page.lists.set("search", new Uint32Array());
      return;
    }
    try {
      const { rows, total } = await this.page.source.search(text, where);
      if (this.wanted !== text + where) return;
      this.page.panel.close();
      this.page.lists.set("search", rows, total);
      this.page.lists.choose("search");
      this.page.speak(`${whole(total)} samples hold “${text}”`);
    } catch (fault) {
      this.page.fail(fault);
    }
  }

  async nearest(row) {
    try {
      const rows = await this.page.source.nearest(row, NEAREST, this.page.store.settings.strategy);
      this.page.panel.close();
      this.page.lists.set("nearest", rows);
      this.page.lists.choose("nearest");
    } catch (fault) {
      this.page.fail(fault);
    }
  }

  /** Put rows on a list of the settings, or take them off; no row is on both. */
  name(list, rows, on) {
    const { settings } = this.page.store;
    const named = new Set(rows);
    const other = list === "exclude" ? "must_include" : "exclude";
    const rowsOf = (name) => (Array.isArray(settings[name]) ? settings[name] : []);
    const without = (name) => rowsOf(name).filter((row) => !named.has(row));
    this.page.store.set({
      [list]: on ? [...without(list), ...rows] : without(list),
      [other]: on ? without(other) : settings[other],
    });
  }

  async quotaOf(rows) {
    const [about, codes] = await this.page.looks.column("source");
    this.page.store.set({ quota: quotaOf(about.labels, codes, rows) });
    this.page.controls.limits.open = true;
  }
}
