// Small pictures of figures: the curve over the dial, sparklines, histograms, bars.
import { drawn, element, figure, percent, sizeOf, whole } from "./dom.js";

const PAD = 14; // half the dial's knob: the curve stands over the track

/** The figures of a subset, as they are called in answers, in the order of the page. */
export const FIGURES = {
  kinds: { name: "Kinds", long: "kinds covered" },
  coverage: { name: "Coverage", long: "coverage" },
  evenness: { name: "Evenness", long: "evenness of the kinds" },
  entropy_bits: { name: "Entropy", long: "entropy of the kinds, bits" },
  instruction_tokens: { name: "Instruction", long: "mean instruction tokens" },
  response_tokens: { name: "Response", long: "mean response tokens" },
};

function scaled(values, height, pad) {
  const read = values.filter((value) => Number.isFinite(value));
  const low = Math.min(...read);
  const width = Math.max(...read) - low || Math.abs(low) || 1;
  const y = (value) => height - 4 - ((value - low) / width) * (height - 4 - pad);
  return { y, low, high: Math.max(...read) };
}

/** The curve of one figure over the dial, random's level, and where one stands. */
export function curve(place, { told, name, random, at, here, kept, old, turned }) {
  const [wide, height] = sizeOf(place);
  const width = Math.max(wide, 200);
  const values = told?.[name];
  const picture = drawn("svg", { width, height, "aria-hidden": "true" });
  place.classList.toggle("old", old);
  place.replaceChildren(picture);
  if (!values) return;
  const { y, low, high } = scaled([...values, random ?? values[0], here ?? values[0]], height, 18);
  const x = (value) => PAD + (value / 100) * (width - 2 * PAD);
  const line = told.diversity
    .map((value, i) => `${i ? "L" : "M"}${x(value).toFixed(1)} ${y(values[i] ?? low).toFixed(1)}`)
    .join("");
  for (let step = 0; step <= 100; step += 25) {
    picture.append(drawn("line", { x1: x(step), x2: x(step), y1: 0, y2: height, class: "grid" }));
  }
  picture.append(
    drawn("path", { d: `${line}L${x(100)} ${height}L${x(0)} ${height}Z`, class: "area" }),
    drawn("path", { d: line, class: "curve" }),
  );
  const word = (text, left, top, anchor = "start") => {
    const made = drawn("text", { x: left, y: top, "text-anchor": anchor });
    made.textContent = text;
    picture.append(made);
  };
  if (Number.isFinite(random)) {
    const level = y(random);
    picture.append(drawn("line", { x1: PAD, x2: width - PAD, y1: level, y2: level, class: "random" }));
    word(`random ${figure(random)}`, PAD + 4, level < 16 ? level + 13 : level - 4);
  }
  if (kept !== null) {
    picture.append(drawn("line", { x1: x(kept), x2: x(kept), y1: 0, y2: height, class: "kept" }));
    word("A", x(kept) + (kept > 95 ? -4 : 4), 11, kept > 95 ? "end" : "start");
  }
  word(figure(high), at > 86 ? x(at) - 9 : width - PAD, y(high) - 5, "end");
  if (at !== null) {
    const between = told.diversity.findIndex((value) => value >= at);
    const [a, b] = [Math.max(between - 1, 0), Math.max(between, 0)];
    const span = told.diversity[b] - told.diversity[a] || 1;
    const read = values[a] + ((at - told.diversity[a]) / span) * (values[b] - values[a] || 0);
    picture.append(
      drawn("line", { x1: x(at), x2: x(at), y1: 0, y2: height, class: "here" }),
      drawn("circle", { cx: x(at), cy: y(here ?? read), r: 5, class: "here" }),
    );
  }
  picture.addEventListener("pointerdown", (event) => {
    const left = picture.getBoundingClientRect().left;
    const wanted = (100 * (event.clientX - left - PAD)) / (width - 2 * PAD);
    turned(Math.round(Math.min(100, Math.max(0, wanted))));
  });
}

function spark(told, name, random, at) {
  const [width, height] = [84, 30];
  const picture = drawn("svg", { width, height, class: "spark", "aria-hidden": "true" });
  const values = told?.[name];
  if (!values) return picture;
  const { y, low } = scaled([...values, random ?? values[0]], height, 4);
  const x = (value) => 3 + (value / 100) * (width - 6);
  const line = told.diversity.map((value, i) => `${i ? "L" : "M"}${x(value)} ${y(values[i] ?? low)}`).join("");
  if (Number.isFinite(random)) {
    picture.append(drawn("line", { x1: 3, x2: width - 3, y1: y(random), y2: y(random), class: "random" }));
  }
  picture.append(drawn("path", { d: line, class: "curve" }));
  if (at !== null) picture.append(drawn("line", { x1: x(at), x2: x(at), y1: 0, y2: height, class: "here" }));
  return picture;
}

const value = (name, number) =>
  name === "coverage" && number !== null && number !== undefined ? percent(number) : figure(number);

/** One button a figure: its value, its course over the dial, and what random and the corpus have. */
export function figures(place, { told, line, at, kept, chosen, choose }) {
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  const { picked, random, corpus } = told.beside;
  const rows = Object.entries(FIGURES)
    .filter(([name]) => picked?.[name] !== null && picked?.[name] !== undefined)
    .map(([name, { name: title, long }]) => {
      const others = [
        ["random", value(name, random?.[name])],
        ["corpus", value(name, corpus?.[name])],
        ...(kept ? [["A", value(name, kept.beside.picked?.[name])]] : []),
      ];
      const here = value(name, picked[name]);
      const label = `${long}: ${here}; ${others.map((one) => one.join(" ")).join(", ")}`;
      return element(
        "button",
        {
          type: "button", className: "figure", "aria-pressed": String(name === chosen),
          "aria-label": label, title: `Show ${long} over the dial`, onclick: () => choose(name),
        },
        element("span", { className: "name" }, title, element("b", {}, here)),
        spark(line, name, random?.[name], at),
        element("span", { className: "others" }, ...others.flatMap(([who, what]) => [
          element("i", {}, who), element("span", {}, what),
        ])),
      );
    });
  rows.forEach((row) => (row.dataset.name = row.querySelector(".name").firstChild.data));
  place.replaceChildren(...rows);
  rows.find((row) => row.dataset.name === focused)?.focus();
}

/** Lengths: bars of the picked, a stepped line of the corpus, a dashed one of random. */
export function lengths(place, edges, beside) {
  const counts = beside.picked?.lengths;
  if (!counts || !edges) return place.replaceChildren();
  const [width, height, foot] = [Math.max(sizeOf(place)[0], 200), 84, 14];
  const shares = (of) => {
    const sum = of?.reduce((a, b) => a + b, 0) || 1;
    return of?.map((count) => count / sum);
  };
  const all = ["picked", "corpus", "random"].map((who) => shares(beside[who]?.lengths));
  const most = Math.max(...all.flatMap((one) => one ?? []), 1e-9);
  const step = width / counts.length;
  const y = (share) => (height - foot) * (1 - (share / most) * 0.94);
  const picture = drawn("svg", { width, height, role: "img" });
  picture.setAttribute("aria-label", `Response lengths, ${figure(edges[0])} to ${figure(edges.at(-1))} tokens`);
  all[0].forEach((share, i) => {
    const name = drawn("title");
    name.textContent = `${figure(edges[i])} to ${figure(edges[i + 1])} tokens: ` +
      ["picked", "corpus", "random"].map((who, k) => (all[k] ? `${who} ${percent(all[k][i])}` : "")).filter(Boolean).join(", ");
    const full = { x: i * step, width: step, y: 0, height: height - foot, class: "hit" };
    const bar = { x: i * step + 0.5, width: Math.max(step - 1, 1), y: y(share), height: height - foot - y(share) };
    picture.append(drawn("rect", { ...bar, class: "bar" }), drawn("rect", full, name));
  });
  for (const [who, of] of [["corpus", all[1]], ["random", all[2]]]) {
    if (!of) continue;
    const line = of.map((share, i) => `${i ? "L" : "M"}${i * step} ${y(share)}H${(i + 1) * step}`).join("");
    picture.append(drawn("path", { d: line, class: `step ${who}` }));
  }
  const marks = [0, Math.round(counts.length / 2), counts.length];
  marks.forEach((i, at) => {
    const word = drawn("text", { x: i * step, y: height - 2, "text-anchor": ["start", "middle", "end"][at] });
    word.textContent = figure(edges[i], 2);
    picture.append(word);
  });
  const key = (who, text) => element("span", {}, element("i", { className: `key ${who}` }), text);
  place.replaceChildren(picture, element("p", { className: "keys" },
    key("bar", "picked"), key("corpus", "corpus"), key("random", "random")));
}

/** Sources: a bar of each one's share of the picked, a tick where the corpus has it. */
export function sources(place, beside, many) {
  const shares = { picked: beside.picked?.sources ?? {}, corpus: beside.corpus?.sources ?? {} };
  const names = [...new Set([...Object.keys(shares.corpus), ...Object.keys(shares.picked)])]
    .sort((a, b) => (shares.corpus[b] ?? 0) - (shares.corpus[a] ?? 0) || (a < b ? -1 : 1));
  const most = Math.max(...names.flatMap((name) => [shares.picked[name] ?? 0, shares.corpus[name] ?? 0]), 1e-9);
  const rows = names.map((name) => {
    const [here, there] = [shares.picked[name] ?? 0, shares.corpus[name] ?? 0];
    const bar = element("span", { className: "bar" });
    bar.style.width = `${(100 * here) / most}%`;
    const tick = element("span", { className: "tick" });
    tick.style.left = `${(100 * there) / most}%`;
    const title = `${name}: ${percent(here)} of the picked (${whole(here * many)}), ${percent(there)} of the corpus`;
    return element("li", { title },
      element("span", { className: "name", dir: "auto" }, name || "(none)"),
      element("span", { className: "value" }, percent(here)),
      element("span", { className: "track", "aria-hidden": "true" }, bar, tick));
  });
  place.replaceChildren(element("ul", {}, ...rows));
}
