// Where the page reads from: the server that it came from, or data that lie in the page itself.

const POLL = 250; // milliseconds

export class Fault extends Error {
  constructor(message, field = null) {
    super(message);
    this.field = field;
  }
}

const wait = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

export class Server {
  live = true;
  progress = () => {}; // called with {what, share, seconds_left} of what is waited for, or null
  waits = new Map();

  async ask(path, body) {
    const options = body === undefined ? {} : {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    };
    let answer;
    try {
      answer = await fetch(`api/${path}`, options);
    } catch {
      throw new Fault("The server does not answer: is sftdiv explore still running?");
    }
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => ({}));
    throw new Fault(told.error ?? `The server answered ${answer.status}.`, told.field ?? null);
  }

  waiting(key, told) {
    if (told) this.waits.set(key, told);
    else this.waits.delete(key);
    this.progress([...this.waits.values()][0] ?? null);
  }

  /** Ask until it is made; a newer wish stops the waiting, not the making. */
  async made(path, body, { signal, quiet } = {}) {
    const key = {};
    const waiting = (told) => quiet || this.waiting(key, told);
    try {
      for (;;) {
        const answer = await this.ask(path, body);
        if (answer.status !== 202) return answer;
        const { job, what, seconds } = await answer.json();
        waiting({ what, share: null, seconds_left: seconds });
        for (;;) {
          await wait(POLL, signal);
          const told = await (await this.ask(`job/${encodeURIComponent(job)}`)).json();
          if (told.state === "failed") throw new Fault(told.error);
          if (told.result) return { json: async () => told.result };
          if (told.state === "done") break;
          waiting({ ...told, what: told.what ?? what });
        }
      }
    } finally {
      waiting(null);
    }
  }

  async json(path, body, options) {
    return (await this.made(path, body, options)).json();
  }

  async bytes(path, body, options) {
    return (await this.made(path, body, options)).arrayBuffer();
  }

  corpus() {
    return this.json("corpus");
  }

  strategies() {
    return this.json("strategies", undefined, { quiet: true });
  }

  async places() {
    return new Uint16Array(await this.bytes("map"));
  }

  async column(name, sort) {
    const bytes = await this.bytes(`column/${encodeURIComponent(name)}`);
    return sort === "category" ? new Uint16Array(bytes) : new Float32Array(bytes);
  }

  async select(settings, signal) {
    const bytes = await this.bytes("select", { settings }, { signal });
    const length = new DataView(bytes).getUint32(0, true);
    const told = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
    return { told, rows: new Uint32Array(bytes, 4 + length) };
  }

  curve(settings, signal) {
    return this.json("curve", { settings }, { signal });
  }

  samples(rows, strategy) {
    return this.json(`samples?rows=${rows.join(",")}&strategy=${encodeURIComponent(strategy)}`);
  }

  sample(row, strategy) {
    return this.json(`sample?row=${row}&strategy=${encodeURIComponent(strategy)}`);
  }

  explain(settings, row, signal) {
    return this.json("explain", { settings, row }, { signal, quiet: true });
  }

  async search(text, where) {
    const answer = await this.made(`search?q=${encodeURIComponent(text)}&in=${where}`);
    const rows = new Uint32Array(await answer.arrayBuffer());
    return { rows, total: Number(answer.headers.get("X-Total") ?? rows.length) };
  }

  async nearest(row, many, strategy) {
    const asked = `nearest?row=${row}&many=${many}&strategy=${encodeURIComponent(strategy)}`;
    return new Uint32Array(await this.bytes(asked));
  }

  keep(settings, what, to) {
    return this.json("keep", { settings, what, to });
  }
}

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** The same answers from data in the page: the dial has the positions that were computed. */
export class Embedded {
  live = false;
  progress = () => {};

  constructor(data) {
    this.data = data;
    this.texts = null;
  }

  async corpus() {
    return { ...this.data.corpus, settings: this.data.settings };
  }

  async places() {
    return new Uint16Array(await unpacked(this.data.map));
  }

  async column(name, sort) {
    const bytes = await unpacked(this.data.columns[name]);
    return sort === "category" ? new Uint16Array(bytes) : new Float32Array(bytes);
  }

  async select({ diversity }) {
    const { positions, select, picks } = this.data;
    this.picks ??= new Uint32Array(await unpacked(picks));
    const far = positions.map((one) => Math.abs(one - diversity));
    const at = far.indexOf(Math.min(...far));
    const size = this.picks.length / positions.length;
    const rows = this.picks.slice(at * size, (at + 1) * size);
    for (let i = 1; i < size; i += 1) rows[i] += rows[i - 1];
    return { told: select[at], rows };
  }

  async curve() {
    return this.data.curve;
  }

  async read() {
    if (this.texts) return this.texts;
    const listed = JSON.parse(new TextDecoder().decode(await unpacked(this.data.samples)));
    const source = this.data.columns.source ? await this.column("source", "category") : null;
    const tokens = {};
    for (const name of ["instruction_tokens", "response_tokens"]) {
      if (this.data.columns[name]) tokens[name] = await this.column(name, "number");
    }
    const labels = this.data.corpus.columns.find((one) => one.name === "source")?.labels ?? [];
    const about = (row) => ({
      row,
      source: source ? labels[source[row]] : "",
      ...Object.fromEntries(Object.entries(tokens).map(([name, of]) => [name, of[row]])),
    });
    const held = new Map(
      listed.map(([row, id, instruction, response]) => [row, { id, instruction, response }]),
    );
    this.texts = { held, about };
    return this.texts;
  }

  async samples(rows) {
    const { held, about } = await this.read();
    const none = { id: "", instruction: "", response: "", missing: true };
    return rows.map((row) => ({ ...about(row), cut: true, ...(held.get(row) ?? none) }));
  }

  async sample(row) {
    const [one] = await this.samples([row]);
    const turns = one.missing ? [] : [
      { role: "user", text: one.instruction, marks: [] },
      { role: "assistant", text: one.response, marks: [] },
    ];
    return { ...one, turns, columns: {} };
  }

  async search(text, where) {
    const { held } = await this.read();
    const wanted = text.toLowerCase();
    const rows = [];
    for (const [row, one] of held) {
      const read = where === "both" ? `${one.instruction}\n${one.response}` : one[where];
      if (read.toLowerCase().includes(wanted)) rows.push(row);
    }
    return { rows: Uint32Array.from(rows.sort((a, b) => a - b)), total: rows.length };
  }
}

export function opened() {
  const embedded = document.getElementById("embedded");
  return embedded ? new Embedded(JSON.parse(embedded.textContent)) : new Server();
}
