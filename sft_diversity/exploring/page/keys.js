// Help: the keys, and what the signs mean.
import { byId, element } from "./dom.js";

const KEYS = [
  ["← →", "turn the dial, when it is focused (d)"],
  ["[ ]", "diversity − and +; with Shift by 10"],
  ["u, Shift U", "undo, redo"],
  ["a", "keep this setting as A, and show the difference"],
  ["s", "switch with A"],
  ["/", "search"],
  ["l, v", "lasso; take what is in view"],
  ["f", "whole map"],
  ["← → ↑ ↓ + −", "move and zoom, when the map is focused; Enter opens the sample at the cross"],
  ["↑ ↓ Enter Esc", "walk the list, open a sample, go back"],
  ["Shift drag", "draw a lasso"],
  ["?", "this page"],
];

export function showKeys() {
  const dialog = byId("keys");
  const rows = KEYS.flatMap(([key, what]) => [
    element("dt", {}, element("kbd", {}, key)), element("dd", {}, what),
  ]);
  const sign = (name, what) => element("li", {}, element("span", { className: `sign ${name}` }), what);
  dialog.replaceChildren(
    element("h2", { id: "keys-title" }, "Keys and signs"),
    element("dl", {}, ...rows),
    element("ul", { className: "keys" },
      sign("picked", "picked, as before"), sign("entered", "entered with the last change"), sign("left", "left with it")),
    element("button", { type: "button", className: "first", onclick: () => dialog.close() }, "Close"));
  dialog.showModal();
}

/** What a key does, wherever it is pressed but in a field that is written to. */
export function listenKeys(page) {
  const { store, map, panel, kept } = page;
  const dial = byId("diversity");
  const turn = (by) => dial.disabled || page.turn(store.settings.diversity + by);
  const keys = {
    "[": () => turn(-Number(dial.step)),
    "]": () => turn(Number(dial.step)),
    "{": () => turn(-10),
    "}": () => turn(10),
    "/": () => byId("search").focus(),
    u: () => store.undo(),
    U: () => store.redo(),
    a: () => !byId("keep").disabled && kept.keep(),
    s: () => kept.swap(),
    l: () => byId("lasso").click(),
    v: () => byId("take-view").click(),
    f: () => map.fit(),
    d: () => dial.focus(),
    "?": () => showKeys(),
    Escape: () => (panel.open ? panel.close() : map.unlasso()),
  };
  document.addEventListener("keydown", (event) => {
    const written = "textarea, select, input:not([type=range]):not([type=checkbox])";
    if (event.target.matches(written) || byId("keys").open || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      if (event.key.toLowerCase() !== "z") return;
      event.preventDefault();
      if (event.shiftKey) store.redo();
      else store.undo();
    } else if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });
}
