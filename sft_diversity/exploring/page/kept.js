// A second setting, A: kept, shown as a difference, and changed over to.
import { byId, element, whole } from "./dom.js";
import { isLevel } from "./controls.js";

export class Kept {
  constructor(page) {
    Object.assign(this, { page, settings: null, told: null, mask: null, shown: false });
    byId("keep").addEventListener("click", () => this.keep());
  }

  keep() {
    const { shownFor: settings, told, now } = this.page;
    this.become({ settings, told, mask: now.slice(), shown: true });
  }

  become(kept) {
    Object.assign(this, kept);
    this.draw();
    this.page.compare();
    this.page.drawFigures();
    this.page.drawCurve();
  }

  swap() {
    const { settings, page } = this;
    if (!settings) return;
    this.keep();
    page.store.set(settings);
  }

  /** Where A stands on the dial, or null. */
  get diversity() {
    return this.settings && isLevel(this.settings.strategy) ? this.settings.diversity : null;
  }

  draw() {
    const place = byId("kept");
    place.hidden = !this.settings;
    if (!this.settings) return;
    const { strategy, size } = this.settings;
    const button = (name, work, pressed) => element("button", {
      type: "button", onclick: work, "aria-pressed": pressed === undefined ? null : String(pressed),
    }, name);
    const turn = this.diversity === null ? "" : ` ${this.diversity} %`;
    place.replaceChildren(
      element("span", {}, element("b", {}, "A "), `${strategy}${turn}, ${whole(size)}`),
      button("Difference", () => this.become({ shown: !this.shown }), this.shown),
      button("Switch", () => this.swap()),
      button("Forget", () => this.become({ settings: null, told: null, mask: null, shown: false })));
  }
}
