"use strict";
// Theme: what the system says until the reader chooses otherwise.
(() => {
  const button = document.getElementById("theme");
  const themes = [["auto", "light dark"], ["light", "light"], ["dark", "dark"]];
  let at = 0;
  button.hidden = false;
  button.addEventListener("click", () => {
    at = (at + 1) % themes.length;
    document.documentElement.style.colorScheme = themes[at][1];
    button.textContent = "Theme: " + themes[at][0];
  });
})();

function chooser(label, names, chosen, change) {
  const box = document.createElement("label");
  const list = document.createElement("select");
  box.append(label, list);
  names.forEach((name, i) => list.add(new Option(name, String(i), i === chosen, i === chosen)));
  list.addEventListener("change", () => change(Number(list.value)));
  return box;
}

// Parts of which one is shown: [data-choose] names what is chosen, its children [data-name] are it.
document.querySelectorAll("[data-choose]").forEach((group) => {
  const parts = [...group.children].filter((part) => part.dataset.name !== undefined);
  if (parts.length < 2) return;
  const show = (at) => parts.forEach((part, i) => { part.hidden = i !== at; });
  const names = parts.map((part) => part.dataset.name);
  const bar = document.createElement("div");
  bar.className = "choose";
  bar.append(chooser(group.dataset.choose, names, 0, show));
  group.prepend(bar);
  show(0);
});

// The map: one or two subsets over the corpus.
document.querySelectorAll("[data-map]").forEach((map) => {
  const data = JSON.parse(document.getElementById(map.dataset.map).textContent);
  const draw = (style, at) => {
    const points = at < 0 ? [] : data.subsets[at].points;
    let steps = "";
    for (let i = 0; i < points.length; i += 2) steps += `M${points[i]} ${points[i + 1]}h0`;
    map.querySelector(".points." + style).setAttribute("d", steps);
  };
  const names = data.subsets.map((subset) => subset.name);
  if (names.length < 2) return;
  const bar = document.createElement("div");
  const second = Number(map.dataset.second);
  bar.className = "choose";
  bar.append(
    chooser("Subset (blue)", names, 0, (at) => draw("s0", at)),
    chooser("beside (orange)", ["none", ...names], second + 1, (at) => draw("s1", at - 1)),
  );
  map.prepend(bar);
});
