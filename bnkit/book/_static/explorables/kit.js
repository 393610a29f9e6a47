// What the explorables share: controls that are the browser's own, pictures in SVG, and how one is put on the page.
// An explorable is a function of a stage; it draws again whenever a control moves or the page changes its width.
"use strict";

window.bnkit = window.bnkit || {};

window.bnkit.explorables = {
  calm: () => matchMedia("(prefers-reduced-motion: reduce)").matches,

  // Put `make(stage)` in the place of the static picture of every explorable of that name.
  define(name, make) {
    const start = () => {
      for (const figure of document.querySelectorAll(`.explorable[data-explorable="${name}"]`)) {
        const stage = new window.bnkit.Stage(figure);
        make(stage);
        figure.querySelector("img.explorable-still").hidden = true;
        figure.querySelector(".explorable-stage").hidden = false;
        stage.draw();
        let width = stage.width();
        new ResizeObserver(() => {
          if (stage.width() !== width) {
            width = stage.width();
            stage.draw();
          }
        }).observe(figure);
      }
    };
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
  },

  // A number as a reader wants it: few digits, a true minus.
  text(value, digits = 3) {
    if (!Number.isFinite(value)) return "not a number";
    const size = Math.abs(value);
    const plain = size && (size < 1e-3 || size >= 1e5) ? value.toExponential(1).replace("e+", "e").replace(".0e", "e") : Number(value.toPrecision(digits)).toString();
    return plain.replace(/-/g, "−");
  },
};

window.bnkit.Stage = class {
  constructor(figure) {
    const make = (tag, name) => Object.assign(document.createElement(tag), { className: name });
    this.root = figure.querySelector(".explorable-stage");
    this.controls = make("div", "explorable-controls");
    this.picture = make("div", "explorable-picture");
    this.answer = make("p", "explorable-answer");
    this.answer.setAttribute("aria-live", "polite");
    this.legend = make("p", "explorable-legend");
    this.root.append(this.controls, this.legend, this.picture, this.answer);
    this.draw = () => {};
    this.name = figure.dataset.explorable;
  }

  width() {
    return Math.max(240, Math.min(760, this.root.clientWidth || 640));
  }

  // One control: its label, the browser's own element, and what it says now.
  _control(label, element, said = null) {
    const line = document.createElement("label");
    const name = Object.assign(document.createElement("span"), { textContent: label });
    line.append(name, element);
    if (said) line.append(said);
    this.controls.append(line);
    element.addEventListener("input", () => this.draw());
    return element;
  }

  // A slider over a range, or over a list of values. Returns a function that gives the value.
  slider(label, { values = null, min = 0, max = 1, step = 0.01, value, say = window.bnkit.explorables.text }) {
    const element = Object.assign(document.createElement("input"), { type: "range" });
    Object.assign(element, values ? { min: 0, max: values.length - 1, step: 1 } : { min, max, step });
    element.value = values ? values.indexOf(value) : value;
    const said = document.createElement("output");
    const read = () => (values ? values[Number(element.value)] : Number(element.value));
    const tell = () => {
      said.textContent = say(read());
      element.setAttribute("aria-valuetext", said.textContent);
    };
    element.addEventListener("input", tell);
    tell();
    this._control(label, element, said);
    read.set = (wanted) => {
      element.value = values ? values.indexOf(wanted) : wanted;
      tell();
    };
    read.element = element;
    return read;
  }

  choice(label, options, value) {
    const element = document.createElement("select");
    for (const option of options) element.add(new Option(option, option, false, option === value));
    this._control(label, element);
    return () => element.value;
  }

  toggle(label, value = false) {
    const element = Object.assign(document.createElement("input"), { type: "checkbox", checked: value });
    this._control(label, element);
    return () => element.checked;
  }

  button(label, pressed) {
    const element = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    element.addEventListener("click", () => {
      pressed();
      this.draw();
    });
    this.controls.append(element);
    return element;
  }

  say(sentence) {
    if (this.answer.textContent !== sentence) this.answer.textContent = sentence;
  }

  // A picture of that height, as wide as the page gives; `told` is what it shows, in words, `legend` what its marks mean.
  paint(height, told, legend, draw) {
    this.legend.textContent = legend;
    const paper = new window.bnkit.Paper(this.width(), height, told);
    draw(paper);
    this.picture.replaceChildren(paper.svg);
  }

  // What cannot be computed is said, as the reference would refuse it; the picture stays empty.
  attempt(compute) {
    try {
      return compute();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.picture.replaceChildren();
      this.say(`No result: ${error.message}.`);
      return null;
    }
  }
};

window.bnkit.Paper = class {
  constructor(width, height, told) {
    this.width = width;
    this.height = height;
    this.svg = this._element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told });
  }

  _element(tag, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  add(tag, attributes) {
    const element = this._element(tag, attributes);
    this.svg.append(element);
    return element;
  }

  line(points, style) {
    const seen = points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
    return this.add("polyline", { points: seen.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "), class: `line ${style}` });
  }

  dot(x, y, radius, style) {
    return this.add("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: radius, class: `dot ${style}` });
  }

  text(x, y, words, anchor = "start", style = "") {
    this.add("text", { x, y, "text-anchor": anchor, class: style }).textContent = words;
  }

  // A frame with ticks inside the given edges. Returns what turns values into places.
  frame({ x, y, left = 46, right = 12, top = 10, bottom = 34, xLabel = "", xTicks = null, yTicks = null }) {
    const say = window.bnkit.explorables.text;
    const [x0, x1, y0, y1] = [left, this.width - right, this.height - bottom, top];
    const place = (range, from, to) => (value) => from + ((value - range[0]) / (range[1] - range[0])) * (to - from);
    const [px, py] = [place(x, x0, x1), place(y, y0, y1)];
    for (const tick of xTicks || window.bnkit.ticks(x, (x1 - x0) / 70)) {
      const [at, words] = Array.isArray(tick) ? tick : [tick, say(tick)];
      this.line([[px(at), y0], [px(at), y1]], "grid");
      this.text(px(at), y0 + 15, words, "middle", "tick");
    }
    for (const tick of yTicks || window.bnkit.ticks(y, (y0 - y1) / 36)) {
      const [at, words] = Array.isArray(tick) ? tick : [tick, say(tick)];
      this.line([[x0, py(at)], [x1, py(at)]], "grid");
      this.text(x0 - 5, py(at) + 4, words, "end", "tick");
    }
    this.text((x0 + x1) / 2, y0 + 30, xLabel, "middle", "label");
    return { px, py };
  }
};

// Round numbers in a range, about as many as wanted.
window.bnkit.ticks = ([low, high], wanted) => {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const count = Math.floor(high / step + 1e-9) - Math.ceil(low / step - 1e-9) + 1;
  return Array.from({ length: Math.max(0, count) }, (_, i) => (Math.ceil(low / step - 1e-9) + i) * step + 0);
};
