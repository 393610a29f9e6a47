// "Run here": the teaching cells of a page become edit boxes, and Python runs them in the reader's browser.
// Nothing but this file is loaded before somebody clicks. Python itself stands in worker.js; files of the runtime are
// scripts that hand over base64, since a page that was opened from file:// may fetch nothing.
"use strict";

window.bnkit = window.bnkit || {};

window.bnkit.runHere = (() => {
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const loaded = new Map(); // name -> base64
  const own = {}; // manifest.js and sources.js put theirs here

  function script(name) {
    return new Promise((resolve, reject) => {
      const element = Object.assign(document.createElement("script"), { src: `${folder}${name}` });
      element.onload = resolve;
      element.onerror = () => reject(new Error(`the file ${name} could not be loaded; is the copy of the book complete?`));
      document.head.append(element);
    });
  }

  // The reader's Python: one worker, one thing at a time.
  class Python {
    constructor() {
      this.hear = () => {};
      this.end();
    }

    async _files(names, progress) {
      const bytes = (name) => own.manifest.files[name].bytes;
      const total = names.reduce((sum, name) => sum + bytes(name), 0);
      let done = 0;
      const files = [];
      for (const name of names) {
        progress(done / total);
        if (this.refuse.called) throw this.refuse.called;
        if (!loaded.has(name)) await script(`${name}.js`);
        if (!loaded.has(name)) throw new Error(`the file ${name} is damaged, and was not used; copy the book anew`);
        files.push([name, loaded.get(name), own.manifest.files[name].sha256]);
        done += bytes(name);
      }
      progress(1);
      return files;
    }

    _ask(message) {
      if (this.refuse.called) throw this.refuse.called;
      return new Promise((resolve, reject) => {
        this.refuse.now = reject;
        this.worker.onmessage = ({ data }) => {
          if (data.kind === "failed") reject(new Error(data.text));
          else if (["ready", "needs", "ran"].includes(data.kind)) resolve(data.text);
          else this.hear(data.kind, data.text);
        };
        this.worker.onerror = (event) => reject(new Error(event.message || "Python could not be started"));
        this.worker.postMessage(message);
      });
    }

    async start(progress) {
      if (this.worker) return;
      if (typeof WebAssembly === "undefined") throw new Error("this browser has no WebAssembly, which Python needs here; the page itself needs none of it");
      await script("manifest.js");
      await script("sources.js");
      await script("worker.js");
      const files = await this._files(own.manifest.start, progress);
      progress(null);
      const text = `(${window.bnkit.pythonWorker})()`;
      const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
      this.worker = new Worker(address);
      URL.revokeObjectURL(address);
      this.interrupt = window.crossOriginIsolated ? new Uint8Array(new SharedArrayBuffer(1)) : null;
      const { sources } = own;
      try {
        await this._ask({ do: "start", files, sources, packages: ["numpy"], interrupt: this.interrupt });
      } catch (problem) {
        this.end();
        throw problem;
      }
      this.packages = new Set(["numpy"]);
    }

    // Run one cell; what it gives goes to `hear`. Resolves to whether it came to its end.
    async run(code, name, hear, progress) {
      this.hear = hear;
      this.refuse = { called: null, now: () => {} };
      await this.start(progress);
      const wanted = (await this._ask({ do: "needs", code })).split(" ").filter((one) => one && !this.packages.has(one));
      for (const one of wanted) {
        const names = own.manifest.packages[one].filter((name) => !own.manifest.start.includes(name));
        const files = await this._files(names, progress);
        progress(null);
        await this._ask({ do: "install", files, packages: [one] });
        this.packages.add(one);
      }
      progress(1);
      if (this.interrupt) this.interrupt[0] = 0;
      this.running = true;
      try {
        return (await this._ask({ do: "run", code, name })) === "true";
      } finally {
        this.running = false;
      }
    }

    // Stop what runs. Where the browser lets pages share memory Python is interrupted and keeps its names; else it ends.
    stop() {
      if (this.running && this.interrupt && this.interrupt[0] === 0) {
        this.interrupt[0] = 2; // SIGINT; a second Stop ends it, should the cell not listen
        return;
      }
      const lost = this.running ? "stopped. What the cells had made is gone with it: Run all above brings it back" : "stopped before Python ran";
      this.end();
      this.refuse.called = new Error(lost);
      this.refuse.now(this.refuse.called);
    }

    end() {
      if (this.worker) this.worker.terminate();
      this.worker = null;
      this.running = false;
      this.packages = new Set();
    }
  }

  const python = new Python();
  const cells = [];
  let busy = false;

  function element(tag, className, text = "") {
    return Object.assign(document.createElement(tag), { className, textContent: text });
  }

  class Cell {
    constructor(place, number) {
      this.place = place;
      this.name = `cell ${number}`;
      this.input = place.querySelector("pre").closest("div[class*=highlight-], .cell_input") || place.querySelector("pre");
      this.source = place.querySelector("pre").textContent.replace(/\n$/, "");
      this.built = [...place.querySelectorAll(".cell_output")];
      this.check = place.dataset.check || "";
      this.bar = element("div", "run-bar");
      this.buttons = {};
      const button = (key, text, pressed) => {
        this.buttons[key] = Object.assign(element("button", "", text), { type: "button" });
        this.buttons[key].setAttribute("aria-label", `${text}: ${this.name}`);
        this.buttons[key].addEventListener("click", pressed);
        this.bar.append(this.buttons[key]);
      };
      button("run", this.check ? "Check" : "Run", () => this.go([this]));
      button("above", "Run all above", () => this.go(cells.slice(0, cells.indexOf(this)).filter((cell) => !cell.check)));
      button("edit", "Edit", () => this.open(true));
      button("reset", "Reset", () => this.reset());
      button("stop", "Stop", () => python.stop());
      this.bar.append((this.progress = element("progress", "")), (this.status = element("span", "run-status")));
      this.progress.setAttribute("aria-label", "Python is being loaded");
      this.status.setAttribute("role", "status");
      this.output = element("div", "run-output");
      this.output.hidden = true;
      this.input.after(this.bar, this.output);
      this.buttons.above.hidden = cells.every((cell) => cell.check);
      this.idle();
    }

    idle() {
      this.progress.hidden = true;
      this.buttons.stop.hidden = true;
      this.buttons.reset.hidden = !this.box;
      this.buttons.edit.hidden = Boolean(this.box);
    }

    open(focus) {
      if (!this.box) {
        this.box = element("textarea", "run-box");
        Object.assign(this.box, { value: this.source, spellcheck: false, wrap: "off", autocapitalize: "off", autocomplete: "off" });
        this.box.setAttribute("aria-label", `Code of ${this.name}; Control and Enter run it`);
        const fit = () => (this.box.rows = this.box.value.split("\n").length + 1);
        this.box.addEventListener("input", fit);
        this.box.addEventListener("keydown", (event) => this.key(event));
        fit();
        this.input.hidden = true;
        this.input.after(this.box);
      }
      if (focus) this.box.focus();
      this.idle();
    }

    key(event) {
      if (event.key !== "Enter" || event.isComposing) return;
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        this.go([this]);
      } else if (!event.shiftKey && !event.altKey) {
        // a new line begins where the last one began, or further in after a colon
        const before = this.box.value.slice(0, this.box.selectionStart).split("\n").pop();
        const indent = before.match(/^\s*/)[0] + (before.trimEnd().endsWith(":") ? "    " : "");
        if (!indent) return;
        event.preventDefault();
        this.box.setRangeText(`\n${indent}`, this.box.selectionStart, this.box.selectionEnd, "end");
        this.box.dispatchEvent(new Event("input"));
      }
    }

    reset() {
      const focused = this.bar.contains(document.activeElement);
      if (this.box) this.box.remove();
      this.box = null;
      this.input.hidden = false;
      this.output.hidden = true;
      this.output.replaceChildren();
      this.status.textContent = "";
      for (const output of this.built) output.hidden = false;
      this.idle();
      if (focused) this.buttons.run.focus();
    }

    // What runs, piece by piece: the code, and for an exercise the book's checker after it.
    pieces() {
      const code = [[this.box ? this.box.value : this.source, this.name]];
      if (this.check) code.push([`from bnkit.studies import exercises\nprint(exercises.check(${JSON.stringify(this.check)}, globals()))`, "the check"]);
      return code;
    }

    hear(kind, text) {
      if (kind === "figure") {
        const picture = Object.assign(new Image(), { alt: `The figure that ${this.name} draws`, src: `data:image/svg+xml;utf8,${encodeURIComponent(text)}` });
        this.output.append(picture);
        return;
      }
      const last = this.output.lastElementChild;
      if (last && last.dataset.kind === kind && kind !== "note") last.append(text);
      else this.output.append(Object.assign(element(kind === "note" ? "p" : "pre", `run-${kind}`, text)));
      this.output.lastElementChild.dataset.kind = kind;
      if (this.output.lastElementChild.localName === "pre") this.output.lastElementChild.tabIndex = 0; // wide output scrolls
    }

    async run() {
      this.output.replaceChildren();
      this.output.hidden = false;
      for (const output of this.built) output.hidden = true;
      this.buttons.stop.hidden = false;
      this.status.textContent = "running";
      const progress = (share) => {
        this.progress.hidden = share === 1;
        if (share === null) this.progress.removeAttribute("value");
        else this.progress.value = share;
        this.status.textContent = share === 1 ? "running" : share === null ? "starting Python" : "loading Python";
      };
      let good = false;
      try {
        for (const [code, name] of this.pieces()) {
          good = await python.run(code, name, (kind, text) => this.hear(kind, text), progress);
          if (!good) break;
        }
        this.status.textContent = good ? "ran" : "stopped at an error";
      } catch (problem) {
        this.status.textContent = "did not run";
        this.hear("note", `${problem.message[0].toUpperCase()}${problem.message.slice(1)}.`);
      }
      if (good && !this.output.childElementCount) this.hear("note", "It ran, and shows nothing.");
      return good;
    }

    // Run these cells one after the other, up to the first that fails.
    async go(chosen) {
      if (busy) return;
      busy = true;
      for (const cell of cells) for (const key of ["run", "above"]) cell.buttons[key].disabled = true;
      for (const cell of chosen) {
        cell.open(false);
        cell.buttons.stop.hidden = false;
        const good = await cell.run();
        cell.idle();
        if (!good) break;
      }
      for (const cell of cells) for (const key of ["run", "above"]) cell.buttons[key].disabled = false;
      busy = false;
      if (document.activeElement === document.body) this.buttons.run.focus();
    }
  }

  addEventListener("DOMContentLoaded", () => {
    [...document.querySelectorAll(".run-here")].forEach((place, i) => cells.push(new Cell(place, i + 1)));
  });

  return { own, file: (name, base64) => loaded.set(name, base64) };
})();
