// The same points without WebGL: pixels of a picture, which a processor alone draws faster.

const LARGEST = 40; // pixels of a sign

/** Pixels that a disc of a few pixels leaves free at each end of a row. */
function indent(row, side) {
  if (side < 4) return 0;
  const far = Math.abs(row + 0.5 - side / 2);
  return Math.round(side / 2 - Math.sqrt((side / 2) ** 2 - far ** 2));
}

export class CanvasPoints {
  name = "canvas";

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.places = new Uint16Array();
    this.colours = new Uint8Array();
    this.over = { places: new Uint16Array(), colours: new Uint32Array(), signs: new Uint8Array() };
  }

  setAll(places, colours) {
    if (places) this.places = places;
    this.colours = new Uint32Array(colours.buffer);
  }

  setOver(places, colours, signs) {
    this.over = { places, colours: new Uint32Array(colours.buffer), signs };
  }

  draw(view, { small, large, many, ground }) {
    const { width, height } = this.canvas;
    if (!width || !height) return;
    const start = performance.now();
    if (this.image?.width !== width || this.image.height !== height) {
      this.image = this.context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    this.pixels.fill(0);
    const zoom = view.scale * view.ratio;
    const at = { zoom, left: width / 2 - view.x * zoom, top: height / 2 - view.y * zoom };
    this.drawAll(at, Math.max(1, Math.round(small * view.ratio)), many);
    this.drawOver(at, large * view.ratio, ground);
    this.context.putImageData(this.image, 0, 0);
    this.took = performance.now() - start; // milliseconds
  }

  drawAll({ zoom, left, top }, side, many) {
    const { places, colours, pixels } = this;
    const { width, height } = this.canvas;
    const half = side >> 1;
    const indents = Array.from({ length: side }, (_, row) => indent(row, side));
    for (let i = 0, n = Math.min(many, colours.length); i < n; i += 1) {
      if (places[2 * i] === 65535) continue;
      const across = Math.round(places[2 * i] * zoom + left) - half;
      const down = Math.round(places[2 * i + 1] * zoom + top) - half;
      if (across < 0 || down < 0 || across + side > width || down + side > height) continue;
      for (let row = 0, at = down * width + across; row < side; row += 1, at += width) {
        for (let k = indents[row]; k < side - indents[row]; k += 1) pixels[at + k] = colours[i];
      }
    }
  }

  drawOver({ zoom, left, top }, large, ground) {
    const { places, colours, signs } = this.over;
    const { width, height } = this.canvas;
    const { pixels } = this;
    const sheets = new Map();
    for (let i = 0; i < signs.length; i += 1) {
      if (places[2 * i] === 65535) continue;
      const across = places[2 * i] * zoom + left;
      const down = places[2 * i + 1] * zoom + top;
      if (across < -LARGEST || down < -LARGEST || across > width + LARGEST || down > height + LARGEST) continue;
      const key = colours[i] * 3 + signs[i];
      let sheet = sheets.get(key);
      if (!sheet) {
        sheet = this.sheet(colours[i], signs[i], signs[i] ? large * 1.4 : large, ground);
        sheets.set(key, sheet);
      }
      const { side, words } = sheet;
      const x = Math.round(across - side / 2);
      const y = Math.round(down - side / 2);
      if (x < 0 || y < 0 || x + side > width || y + side > height) continue;
      for (let row = 0, from = 0, at = y * width + x; row < side; row += 1, at += width - side) {
        for (let k = 0; k < side; k += 1, from += 1, at += 1) {
          const word = words[from];
          // over others what is more there than not; over nothing its soft edge too
          if (word >>> 24 > 127 || (word && !pixels[at])) pixels[at] = word;
        }
      }
    }
  }

  /** A sign as pixels: 0 disc, 1 diamond, 2 ring. */
  sheet(word, sign, large, ground) {
    const side = Math.min(LARGEST, Math.ceil(large) + 1);
    const context = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
    const [middle, radius] = [side / 2, large / 2];
    context.globalAlpha = (word >>> 24) / 255;
    context.fillStyle = `rgb(${word & 255} ${(word >> 8) & 255} ${(word >> 16) & 255})`;
    context.strokeStyle = context.fillStyle;
    context.beginPath();
    if (sign === 1) {
      context.moveTo(middle, middle - radius);
      context.lineTo(middle + radius, middle);
      context.lineTo(middle, middle + radius);
      context.lineTo(middle - radius, middle);
      context.closePath();
    } else {
      context.arc(middle, middle, sign === 2 ? radius * 0.75 : radius, 0, 2 * Math.PI);
    }
    if (sign === 2) {
      context.lineWidth = Math.max(1, radius * 0.45);
      context.stroke();
    } else {
      context.fill();
      if (radius > 2.5) {
        context.strokeStyle = `rgb(${ground.join(" ")} / 0.7)`;
        context.stroke();
      }
    }
    const words = new Uint32Array(context.getImageData(0, 0, side, side).data.buffer);
    return { side, words };
  }
}
