// Points by WebGL: all samples in one call, the picked, entered and left over them in another.

const VERTEX = `
attribute vec2 place; attribute vec4 colour; attribute float sign;
uniform vec4 view; uniform float size;
varying vec4 tint; varying float form; varying float edge;
void main() {
  tint = colour; form = sign;
  float wide = size * (sign > 0.5 ? 1.4 : 1.0);
  edge = 2.0 / wide;
  gl_PointSize = wide;
  gl_Position = place.x > 65534.5 ? vec4(2.0, 2.0, 2.0, 1.0)
                                  : vec4(place * view.xy + view.zw, 0.0, 1.0);
}`;
// disc, diamond, ring; what is below three pixels stays a square
const FRAGMENT = `
precision mediump float;
uniform vec3 ground;
varying vec4 tint; varying float form; varying float edge;
void main() {
  vec2 at = gl_PointCoord * 2.0 - 1.0;
  float far = form > 0.5 && form < 1.5 ? abs(at.x) + abs(at.y) : length(at);
  float inside = edge > 0.7 ? 1.0 : 1.0 - smoothstep(1.0 - edge, 1.0, far);
  vec3 shade = tint.rgb;
  if (form > 1.5) inside *= smoothstep(0.45 - edge * 0.5, 0.45 + edge * 0.5, far);
  else if (edge < 0.45) shade = mix(shade, ground, smoothstep(0.8 - edge, 0.8, far) * 0.75);
  float a = tint.a * inside;
  gl_FragColor = vec4(shade * a, a);
}`;

/** Whether WebGL is there, and not played by the processor: pixels by hand are faster then. */
export function hasGraphics() {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  const names = gl?.getExtension("WEBGL_debug_renderer_info");
  return Boolean(gl) && !/swiftshader|llvmpipe|software/i.test(
    names ? gl.getParameter(names.UNMASKED_RENDERER_WEBGL) : "",
  );
}

function shader(gl, kind, text) {
  const made = gl.createShader(kind);
  gl.shaderSource(made, text);
  gl.compileShader(made);
  return made;
}

export class WebGLPoints {
  name = "WebGL";

  constructor(canvas, changed) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl", { antialias: false, powerPreference: "high-performance" });
    if (!this.gl) throw new Error("no WebGL");
    this.prepare();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.prepare();
      changed();
    });
  }

  prepare() {
    const { gl } = this;
    const program = gl.createProgram();
    gl.attachShader(program, shader(gl, gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, shader(gl, gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error("no WebGL program");
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.at = Object.fromEntries(
      ["place", "colour", "sign"].map((name) => [name, gl.getAttribLocation(program, name)]),
    );
    this.uniform = Object.fromEntries(
      ["view", "size", "ground"].map((name) => [name, gl.getUniformLocation(program, name)]),
    );
    this.all = { places: gl.createBuffer(), colours: gl.createBuffer(), many: 0 };
    this.over = {
      places: gl.createBuffer(), colours: gl.createBuffer(), signs: gl.createBuffer(), many: 0,
    };
  }

  fill(buffer, values) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, values, this.gl.STATIC_DRAW);
  }

  /** All points: places as x, y pairs and four bytes of colour each, in the order of drawing. */
  setAll(places, colours) {
    if (places) this.fill(this.all.places, places);
    this.fill(this.all.colours, colours);
    this.all.many = colours.length / 4;
  }

  setOver(places, colours, signs) {
    this.fill(this.over.places, places);
    this.fill(this.over.colours, colours);
    this.fill(this.over.signs, signs);
    this.over.many = signs.length;
  }

  bind(points, size, many) {
    const { gl, at } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, points.places);
    gl.enableVertexAttribArray(at.place);
    gl.vertexAttribPointer(at.place, 2, gl.UNSIGNED_SHORT, false, 4, 0);
    gl.bindBuffer(gl.ARRAY_BUFFER, points.colours);
    gl.enableVertexAttribArray(at.colour);
    gl.vertexAttribPointer(at.colour, 4, gl.UNSIGNED_BYTE, true, 4, 0);
    if (points.signs) {
      gl.bindBuffer(gl.ARRAY_BUFFER, points.signs);
      gl.enableVertexAttribArray(at.sign);
      gl.vertexAttribPointer(at.sign, 1, gl.UNSIGNED_BYTE, false, 1, 0);
    } else {
      gl.disableVertexAttribArray(at.sign);
      gl.vertexAttrib1f(at.sign, 0);
    }
    gl.uniform1f(this.uniform.size, size);
    gl.drawArrays(gl.POINTS, 0, Math.min(many, points.many));
  }

  draw(view, { small, large, many, ground }) {
    const { gl, canvas } = this;
    const { scale, x, y, width, height, ratio } = view;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const across = (2 * scale) / width;
    const down = (-2 * scale) / height;
    gl.uniform4f(this.uniform.view, across, down, -x * across, -y * down);
    gl.uniform3f(this.uniform.ground, ...ground.map((one) => one / 255));
    this.bind(this.all, small * ratio, many);
    this.bind(this.over, large * ratio, this.over.many);
  }
}
