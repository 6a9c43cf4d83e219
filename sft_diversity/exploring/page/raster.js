// The same points without WebGL: pixels for all samples, small pictures for those over them.

const FORMS = 3;

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
    this.over = { places: new Uint16Array(), colours: new Uint8Array(), signs: new Uint8Array() };
  }

  setAll(places, colours) {
    if (places) this.places = places;
    this.colours = colours;
  }

  setOver(places, colours, signs) {
    this.over = { places, colours, signs };
    this.order = Uint32Array.from(signs.keys()).sort((a, b) => this.key(a) - this.key(b) || a - b);
  }

  key(at) {
    return new DataView(this.over.colours.buffer).getUint32(4 * at) * FORMS + this.over.signs[at];
  }

  draw(view, { small, large, many, ground }) {
    const { width, height } = this.canvas;
    if (!width || !height) return;
    const { scale, x, y, ratio } = view;
    const zoom = scale * ratio;
    const left = width / 2 - x * zoom;
    const top = height / 2 - y * zoom;
    const image = this.context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const tints = new Uint32Array(this.colours.buffer, this.colours.byteOffset, this.colours.length / 4);
    const side = Math.max(1, Math.round(small * ratio));
    const half = side >> 1;
    const indents = Array.from({ length: side }, (_, row) => indent(row, side));
    const { places } = this;
    for (let i = 0, n = Math.min(many, tints.length); i < n; i += 1) {
      if (places[2 * i] === 65535) continue;
      const across = Math.round(places[2 * i] * zoom + left) - half;
      const down = Math.round(places[2 * i + 1] * zoom + top) - half;
      if (across < 0 || down < 0 || across + side > width || down + side > height) continue;
      for (let row = 0, at = down * width + across; row < side; row += 1, at += width) {
        for (let k = indents[row]; k < side - indents[row]; k += 1) pixels[at + k] = tints[i];
      }
    }
    this.context.putImageData(image, 0, 0);
    this.stamp(zoom, left, top, large * ratio, ground);
  }

  stamp(zoom, left, top, large, ground) {
    const { places, signs } = this.over;
    const { width, height } = this.canvas;
    let last = -1;
    let picture = null;
    for (const i of this.order ?? []) {
      if (places[2 * i] === 65535) continue;
      const across = places[2 * i] * zoom + left;
      const down = places[2 * i + 1] * zoom + top;
      if (across < -20 || down < -20 || across > width + 20 || down > height + 20) continue;
      const key = this.key(i);
      if (key !== last) {
        const tint = this.over.colours.subarray(4 * i, 4 * i + 4);
        picture = this.picture(tint, signs[i], signs[i] ? large * 1.4 : large, ground);
        last = key;
      }
      const middle = picture.width / 2;
      this.context.drawImage(picture, Math.round(across - middle), Math.round(down - middle));
    }
  }

  picture([red, green, blue, alpha], sign, large, ground) {
    const side = Math.ceil(large) + 2;
    const made = new OffscreenCanvas(side, side);
    const context = made.getContext("2d");
    const [middle, radius] = [side / 2, large / 2];
    context.globalAlpha = alpha / 255;
    context.fillStyle = context.strokeStyle = `rgb(${red} ${green} ${blue})`;
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
      return made;
    }
    context.fill();
    if (radius > 2.5) {
      context.strokeStyle = `rgb(${ground.join(" ")} / 0.7)`;
      context.stroke();
    }
    return made;
  }
}
