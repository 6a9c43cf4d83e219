// Take it home: the call that makes this subset, and files of it.
import { byId, duration, element } from "./dom.js";

const CALLS = { command: "Command", python: "Python" };
const FILES = {
  subset: ["Write subset", ""],
  export: ["Export", "-shared"],
  settings: ["Save settings", ".yaml"],
  share: ["Share as HTML", ".html"],
};

export class Home {
  constructor(source, settings) {
    Object.assign(this, { source, settings, form: "command", told: null });
    const place = document.querySelector("#home .forms");
    this.tabs = Object.entries(CALLS).map(([form, name]) =>
      element("button", { type: "button", role: "tab", onclick: () => this.choose(form) }, name));
    place.replaceChildren(...this.tabs);
    byId("copy").addEventListener("click", () => this.copy());
    if (source.live) this.files();
    else byId("writing").hidden = true;
    this.choose("command");
  }

  files() {
    this.path = element("input", { id: "to", type: "text", "aria-label": "Name of what is written", autocomplete: "off", spellcheck: false });
    this.path.addEventListener("input", () => (this.named = this.path.value.trim() !== ""));
    const buttons = Object.entries(FILES).map(([what, [name, end]]) =>
      element("button", { type: "button", onclick: () => this.write(what, this.path.value.trim() + end) }, name));
    this.buttons = buttons;
    byId("writing").replaceChildren(element("label", { htmlFor: "to" }, "as"), this.path, ...buttons);
  }

  choose(form) {
    this.form = form;
    Object.keys(CALLS).forEach((name, at) => {
      this.tabs[at].setAttribute("aria-selected", String(name === form));
    });
    this.draw();
  }

  show(told) {
    this.told = told;
    this.draw();
    if (!this.path || this.named) return;
    const { strategy, size, diversity } = this.settings();
    this.path.value = `${strategy}-${size}-${diversity}`;
  }

  draw() {
    byId("call").textContent = this.told?.[this.form] ?? "";
    byId("call").title = this.told?.digest ? `Digest of its ids: ${this.told.digest}` : "";
  }

  async copy() {
    const text = byId("call").textContent;
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(byId("call"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      said = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl C";
    }
    byId("copy").textContent = said;
    setTimeout(() => (byId("copy").textContent = "Copy"), 1500);
  }

  async write(what, to) {
    const line = byId("written");
    line.classList.remove("fault");
    line.textContent = "Writing …";
    this.buttons.forEach((one) => (one.disabled = true));
    const start = performance.now();
    try {
      const { written } = await this.source.keep(this.settings(), what, to);
      line.textContent = `Written in ${duration((performance.now() - start) / 1000)}: ${written}`;
    } catch (fault) {
      line.classList.add("fault");
      line.textContent = fault.message;
    }
    this.buttons.forEach((one) => (one.disabled = false));
  }
}
