// The map: a camera over the points, signs above them, and what pointer and keys do to both.
import { CanvasPoints } from "./raster.js";
import { NOWHERE, Places, shuffled } from "./places.js";
import { WebGLPoints, hasGraphics } from "./gl.js";
import { colour } from "./dom.js";

const SIDE = 65535;
const REGION = 65.534; // of a region's measure
const NEAR = 10; // CSS pixels from a sample that still mean it
const SLOW = 28; // milliseconds a frame above which fewer points are drawn while moving
const FAST = 20;
const LEAST = 20000; // points drawn while moving, however slow
const RESTED = 160; // milliseconds without movement until all are drawn again
const MANY = 300; // points over the others from which on they are drawn smaller
const CLOSEST = 400; // times the whole map

export const PICKED = 0;
export const ENTERED = 1;
export const LEFT = 2;

/** WebGL where a graphics processor draws it; `#webgl` and `#canvas` in the address choose. */
function renderer(canvas, changed) {
  const asked = globalThis.location.hash;
  try {
    if (asked !== "#canvas" && (asked === "#webgl" || hasGraphics())) return new WebGLPoints(canvas, changed);
  } catch {
    // a context can be refused at any time: the canvas draws
  }
  return new CanvasPoints(canvas);
}

/** A colour as a word of four bytes, as pixels and buffers have it. */
export function word([red, green, blue], alpha) {
  return (red | (green << 8) | (blue << 16) | (Math.round(255 * alpha) << 24)) >>> 0;
}

export class MapView extends EventTarget {
  constructor(stage, points, signs) {
    super();
    Object.assign(this, { stage, points, signs, places: null, regions: [], state: null });
    this.renderer = renderer(points, () => this.restored());
    this.camera = { x: SIDE / 2, y: SIDE / 2, scale: 0.005 };
    this.focused = -1;
    this.hovered = -1;
    this.polygon = null;
    this.lassoing = false;
    this.pointers = new Map();
    this.moved = 0;
    this.moving = false;
    this.budget = Infinity;
    this.listen();
    new ResizeObserver(() => this.resize()).observe(stage);
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Places of all samples, as pairs of 0…65534, 65535 for none; regions' in 0…1000. */
  lay(pairs, regions) {
    this.places = new Places(pairs);
    this.order = shuffled(this.places.many);
    this.ordered = new Uint16Array(pairs.length);
    const [from, to] = [pairs, this.ordered].map((one) => new Uint32Array(one.buffer));
    for (let at = 0; at < this.order.length; at += 1) to[at] = from[this.order[at]];
    this.regions = regions
      .map((one) => ({ ...one, x: one.x * REGION, y: one.y * REGION }))
      .sort((a, b) => b.share - a.share);
    this.fresh = true;
    this.fit();
  }

  /** Colour all samples: `classes` of a column and what of them is in the light, or one colour. */
  paint({ classes, only, cloud, ground, alpha }) {
    if (!this.places) return;
    this.ground = ground;
    const colours = new Uint8Array(4 * this.places.many);
    const words = new Uint32Array(colours.buffer);
    if (classes) {
      const tints = classes.entries.map(({ shade }, at) => word(shade, only < 0 || only === at ? alpha : 0.08));
      this.order.forEach((row, at) => (words[at] = tints[classes.of(row)]));
    } else {
      words.fill(word(cloud, alpha));
    }
    this.colours = colours;
    this.renderer.setAll(this.fresh ? this.ordered : null, colours);
    this.fresh = false;
    this.request();
  }

  /** Put rows over the points: signs are 0 disc, 1 diamond, 2 ring; a colour of four bytes each. */
  mark(rows, signs, colours) {
    if (!this.places) return;
    const places = new Uint16Array(2 * rows.length);
    rows.forEach((row, at) => {
      places[2 * at] = this.places.pairs[2 * row];
      places[2 * at + 1] = this.places.pairs[2 * row + 1];
    });
    this.over = [places, colours, signs];
    this.renderer.setOver(...this.over);
    this.request();
  }

  restored() {
    if (!this.places) return;
    this.renderer.setAll(this.ordered, this.colours);
    if (this.over) this.renderer.setOver(...this.over);
    this.request();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const whole = this.size && Math.abs(this.camera.scale - this.fitting()) < 1e-9;
    this.size = { width, height, ratio };
    for (const canvas of [this.points, this.signs]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    if (whole || !this.fitted) this.fit();
    this.draw();
  }

  fitting() {
    return (0.97 * Math.min(this.size.width, this.size.height)) / SIDE;
  }

  fit() {
    if (!this.size) return;
    this.fitted = true;
    this.camera = { x: SIDE / 2, y: SIDE / 2, scale: this.fitting() };
    this.viewed();
  }

  zoom(times, x = this.size.width / 2, y = this.size.height / 2) {
    const [wx, wy] = this.world(x, y);
    const least = this.fitting() * 0.6;
    const scale = Math.min(Math.max(this.camera.scale * times, least), this.fitting() * CLOSEST);
    this.camera = {
      scale,
      x: wx - (x - this.size.width / 2) / scale,
      y: wy - (y - this.size.height / 2) / scale,
    };
    this.viewed();
  }

  pan(across, down) {
    const { scale, x, y } = this.camera;
    const clip = (value) => Math.min(SIDE * 1.2, Math.max(-SIDE * 0.2, value));
    this.camera = { scale, x: clip(x - across / scale), y: clip(y - down / scale) };
    this.viewed();
  }

  /** Bring a sample into view, if it is not. */
  show(row) {
    this.focused = row;
    const [x, y] = this.places ? this.screen(row) : [NaN, NaN];
    const { width, height } = this.size ?? {};
    if (x < 20 || y < 20 || x > width - 20 || y > height - 20) {
      this.camera = { ...this.camera, x: this.places.pairs[2 * row], y: this.places.pairs[2 * row + 1] };
      this.viewed();
    }
    this.request();
  }

  viewed() {
    this.moved = performance.now();
    this.moving = true;
    this.request();
    this.tell("view");
  }

  world(x, y) {
    const { width, height } = this.size;
    const { scale } = this.camera;
    return [this.camera.x + (x - width / 2) / scale, this.camera.y + (y - height / 2) / scale];
  }

  screen(row) {
    const x = this.places.pairs[2 * row];
    if (x === NOWHERE) return [NaN, NaN];
    return this.seen(x, this.places.pairs[2 * row + 1]);
  }

  seen(x, y) {
    const { scale } = this.camera;
    const { width, height } = this.size;
    return [(x - this.camera.x) * scale + width / 2, (y - this.camera.y) * scale + height / 2];
  }

  box() {
    const [left, top] = this.world(0, 0);
    const [right, bottom] = this.world(this.size.width, this.size.height);
    return { left, top, right, bottom };
  }

  request() {
    this.asked ??= requestAnimationFrame((now) => {
      this.asked = null;
      this.pace(now);
      this.draw();
    });
  }

  /** While the view moves, draw as many points as keep up; all of them once it rests. */
  pace(now) {
    const moving = this.moving || now - this.moved < RESTED;
    this.moving = false;
    clearTimeout(this.resting);
    if (!moving) {
      this.before = null;
      this.budget = Infinity;
      return;
    }
    this.resting = setTimeout(() => this.request(), RESTED);
    const took = this.before ? now - this.before : 0;
    this.before = now;
    if (!took || took > 2000) return; // the page was out of sight
    const drawn = Math.min(this.budget, this.places?.many ?? 0);
    const share = (this.renderer.took ?? took) / took; // of a frame; the rest is not the points'
    if (took > SLOW && share > 1 / 3) this.limit = Math.max(LEAST, drawn * 0.7);
    else if (this.limit && (took < FAST || share < 1 / 6)) this.limit *= 1.15;
    this.budget = this.limit ?? Infinity;
  }

  sizes() {
    const zoom = Math.max(1, this.camera.scale / this.fitting());
    const small = Math.min(9, 4 * (2400 / Math.max(this.places.many, 1)) ** 0.25 * zoom ** 0.35);
    const many = Math.max(this.over?.[2].length ?? 0, MANY);
    return { small: Math.max(1, small), large: Math.max(1, small) + 2.4 * (MANY / many) ** 0.22 };
  }

  draw() {
    if (!this.size?.width) return;
    if (this.places && this.colours) {
      const view = { ...this.camera, ...this.size };
      this.renderer.draw(view, { ...this.sizes(), many: this.budget, ground: this.ground });
    }
    this.drawSigns();
  }

  drawSigns() {
    const context = this.signs.getContext("2d");
    const { width, height, ratio } = this.size;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.ink ??= { text: colour("ink"), stage: colour("stage"), accent: colour("accent") };
    const shade = (name, alpha = 1) => `rgb(${this.ink[name].join(" ")} / ${alpha})`;
    if (this.places) this.drawWords(context, shade);
    for (const [row, radius] of [[this.hovered, 7], [this.focused, 10]]) {
      if (row < 0 || !this.places) continue;
      const [x, y] = this.screen(row);
      for (const [line, name] of [[5, "stage"], [2, "text"]]) {
        context.lineWidth = line;
        context.strokeStyle = shade(name);
        context.beginPath();
        context.arc(x, y, radius, 0, 2 * Math.PI);
        context.stroke();
      }
    }
    if (this.polygon) {
      context.beginPath();
      for (const [x, y] of this.polygon) context.lineTo(...this.seen(x, y));
      context.closePath();
      if (this.drawing) {
        context.fillStyle = shade("accent", 0.1);
        context.fill();
      }
      context.lineWidth = 1.5;
      context.setLineDash([5, 4]);
      context.strokeStyle = shade("accent");
      context.stroke();
      context.setLineDash([]);
    }
    if (this.crossed) {
      context.strokeStyle = shade("text", 0.8);
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(width / 2 - 9, height / 2);
      context.lineTo(width / 2 + 9, height / 2);
      context.moveTo(width / 2, height / 2 - 9);
      context.lineTo(width / 2, height / 2 + 9);
      context.stroke();
    }
  }

  drawWords(context, shade) {
    const { width, height } = this.size;
    const taken = [];
    context.font = `600 12px ${getComputedStyle(this.stage).fontFamily}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    for (const region of this.regions) {
      const words = region.words.join(" · ");
      const [x, y] = this.seen(region.x, region.y);
      const half = context.measureText(words).width / 2 + 4;
      const at = Math.min(Math.max(x, half), width - half);
      const box = [at - half, y - 9, at + half, y + 9];
      const hidden = x < 0 || y < 12 || x > width || y > height - 12;
      const over = ([a, b, c, d]) => box[0] < c && box[2] > a && box[1] < d && box[3] > b;
      if (!words || hidden || taken.some(over)) continue;
      taken.push(box);
      context.lineWidth = 4;
      context.strokeStyle = shade("stage", 0.85);
      context.strokeText(words, at, y);
      context.fillStyle = shade("text");
      context.fillText(words, at, y);
    }
  }

  recolour() {
    this.ink = null;
    this.request();
  }

  /** The sample under a place of the screen, or −1; what is over the others comes first. */
  at(x, y) {
    if (!this.places) return -1;
    return this.places.near(...this.world(x, y), NEAR / this.camera.scale, this.isOver);
  }

  isOver = (row) => (this.state ? this.state(row) : false);

  place(event) {
    const box = this.stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  listen() {
    const on = (name, work, options) => this.stage.addEventListener(name, work, options);
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) on(name, (event) => this.up(event));
    on("pointerleave", () => this.hover(-1));
    on("wheel", (event) => {
      event.preventDefault();
      const step = event.deltaY * (event.deltaMode === 1 ? 16 : 1) * (event.ctrlKey ? 4 : 1);
      this.zoom(Math.exp(-step / 400), ...this.place(event));
    }, { passive: false });
    on("dblclick", (event) => this.zoom(2, ...this.place(event)));
    on("keydown", (event) => this.key(event));
    on("focus", () => this.cross(this.stage.matches(":focus-visible")));
    on("blur", () => this.cross(false));
  }

  cross(shown) {
    this.crossed = shown;
    this.request();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 160 : 40;
    const keys = {
      ArrowLeft: () => this.pan(step, 0),
      ArrowRight: () => this.pan(-step, 0),
      ArrowUp: () => this.pan(0, step),
      ArrowDown: () => this.pan(0, -step),
      "+": () => this.zoom(1.3),
      "=": () => this.zoom(1.3),
      "-": () => this.zoom(1 / 1.3),
      0: () => this.fit(),
      Enter: () => this.openMiddle(),
      Escape: () => this.unlasso(),
    };
    const work = keys[event.key];
    if (!work) return;
    event.preventDefault();
    this.crossed = true;
    work();
  }

  unlasso() {
    this.polygon = null;
    this.request();
  }

  openMiddle() {
    const { width, height } = this.size;
    const row = this.at(width / 2, height / 2);
    if (row >= 0) this.tell("open", row);
  }

  down(event) {
    if (event.button > 0) return;
    this.crossed = false;
    this.stage.setPointerCapture(event.pointerId);
    const at = this.place(event);
    this.pointers.set(event.pointerId, at);
    this.travelled = 0;
    if (this.pointers.size === 1 && (this.lassoing || event.shiftKey)) {
      this.polygon = [this.world(...at)];
      this.drawing = true;
    }
    this.hover(-1);
  }

  move(event) {
    const at = this.place(event);
    const from = this.pointers.get(event.pointerId);
    if (!from) {
      if (event.pointerType === "mouse") this.hover(this.at(...at), at);
      return;
    }
    const [across, down] = [at[0] - from[0], at[1] - from[1]];
    if (this.drawing) {
      if (Math.hypot(across, down) < 3) return;
      this.polygon.push(this.world(...at));
      this.request();
    } else if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, one]) => one);
      const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]);
      this.pan(across / 2, down / 2);
      this.zoom(apart(at) / Math.max(apart(from), 1), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
    } else {
      this.pan(across, down);
    }
    this.travelled += Math.hypot(across, down);
    this.pointers.set(event.pointerId, at);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.drawing) {
      this.drawing = false;
      const polygon = this.polygon;
      if (polygon.length > 2 && this.places) this.tell("lasso", this.places.within(polygon));
      else this.polygon = null;
      this.request();
    } else if (event.type === "pointerup" && this.travelled < 4 && !this.pointers.size) {
      const row = this.at(...this.place(event));
      if (row >= 0) this.tell("open", row);
    }
  }

  hover(row, at) {
    if (row === this.hovered) return;
    this.hovered = row;
    this.stage.classList.toggle("over", row >= 0);
    this.tell("hover", { row, at });
    this.request();
  }
}
