// Settings with their past, and work of which the newest wins.

const PAUSE = 700; // milliseconds; a turn of the dial is one step of undo
const REMEMBERED = 500;

export class Store extends EventTarget {
  constructor(settings) {
    super();
    this.settings = settings;
    this.past = [];
    this.future = [];
    this.step = 0; // what entered and left counts from the picture before this step
    this.last = { keys: "", at: 0 };
  }

  /** Change settings; `joined`: with changes of the same just before, one step. */
  set(patch, joined = false) {
    const next = { ...this.settings, ...patch };
    if (JSON.stringify(next) === JSON.stringify(this.settings)) return;
    const keys = joined ? Object.keys(patch).join() : "";
    const now = performance.now();
    if (!keys || keys !== this.last.keys || now - this.last.at > PAUSE) {
      this.past.push(this.settings);
      if (this.past.length > REMEMBERED) this.past.shift();
      this.step += 1;
    }
    this.last = { keys, at: now };
    this.future = [];
    this.become(next);
  }

  undo() {
    this.travel(this.past, this.future);
  }

  redo() {
    this.travel(this.future, this.past);
  }

  travel(from, to) {
    if (!from.length) return;
    to.push(this.settings);
    this.step += 1;
    this.last = { keys: "", at: 0 };
    this.become(from.pop());
  }

  become(settings) {
    this.settings = settings;
    this.dispatchEvent(new Event("change"));
  }
}

/** Runs `work(input, signal)` one at a time; of what comes meanwhile the last is run. */
export class Newest {
  constructor(work, done, failed) {
    Object.assign(this, { work, done, failed, next: null, running: false, stop: null });
  }

  ask(input) {
    this.next = { input };
    this.stop?.abort();
    if (!this.running) this.run();
  }

  async run() {
    this.running = true;
    while (this.next) {
      const { input } = this.next;
      this.next = null;
      this.stop = new AbortController();
      try {
        this.done(await this.work(input, this.stop.signal), input);
      } catch (fault) {
        if (!this.next && fault.name !== "AbortError") this.failed(fault, input);
      }
    }
    this.running = false;
  }
}
