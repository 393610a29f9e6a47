// The switch for the evidence, predictions that check an answer, and folds that open for links and for the printer.
// Plain JavaScript, no request to anywhere; without it folds open one by one, and a prediction shows its answer on demand.
"use strict";

(() => {
  const MEMORY = "bnkit-evidence"; // in the browser's storage, where it has one
  const recall = () => {
    try {
      return localStorage.getItem(MEMORY) === "shown";
    } catch {
      return false;
    }
  };
  const remember = (shown) => {
    try {
      localStorage.setItem(MEMORY, shown ? "shown" : "folded");
    } catch {
      /* a browser that keeps nothing */
    }
  };

  const addSwitch = () => {
    const evidence = document.querySelectorAll("details.evidence");
    const bar = document.querySelector(".article-header-buttons") || document.querySelector("article");
    if (!evidence.length || !bar) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "evidence-switch";
    const set = (shown) => {
      evidence.forEach((fold) => (fold.open = shown));
      button.setAttribute("aria-pressed", shown);
      button.textContent = shown ? "Hide the evidence" : "Show the evidence";
    };
    set(recall());
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      remember(shown);
      set(shown);
    });
    bar.prepend(button);
  };

  // The answer to a prediction stands in its fold: one bold number, or one line for each choice, "**Yes.** ..." the right one.
  const number = (text) => Number.parseFloat(text.replace(/[\s,\u2009\u202f]/g, "").replace("−", "-"));
  const near = (given, wanted, text) => {
    const digits = (text.split(".")[1] || "").replace(/\D.*/, "").length;
    const close = /about|≈/.test(text) ? 0.05 * Math.abs(wanted) : 0.5 * 10 ** -digits;
    return Math.abs(given - wanted) <= close * (1 + 1e-9);
  };

  const choices = (options, reasons, box) => {
    const field = document.createElement("fieldset");
    const name = `prediction-${Math.random().toString(36).slice(2)}`;
    options.forEach((option, index) => {
      const label = document.createElement("label");
      const radio = document.createElement("input");
      radio.type = "radio";
      radio.name = name;
      radio.value = index;
      const words = document.createElement("span");
      words.append(...option.childNodes);
      label.append(radio, words);
      field.append(label);
    });
    const legend = document.createElement("legend");
    legend.className = "visually-hidden";
    legend.textContent = box.querySelector(".admonition-title").textContent;
    field.prepend(legend);
    const judge = () => {
      const chosen = field.querySelector("input:checked");
      if (!chosen) return null;
      const reason = reasons[chosen.value];
      return { right: reason.textContent.trim().startsWith("Yes"), reason: reason.cloneNode(true).childNodes };
    };
    return { field, judge };
  };

  const figure = (answer, box) => {
    const bold = answer.querySelector("strong");
    const input = document.createElement("input");
    input.type = "text";
    input.inputMode = "decimal";
    input.setAttribute("aria-label", box.querySelector(".admonition-title").textContent);
    const judge = () => {
      const given = number(input.value);
      if (Number.isNaN(given)) return null;
      const text = bold.textContent;
      const right = near(given, number(text.replace(/^[^\d.+−-]*/, "")), text);
      return { right, reason: [document.createTextNode(right ? "Yes." : "Not quite. Try again, or see the answer.")] };
    };
    return { field: input, judge };
  };

  const prepare = (box) => {
    const answer = box.querySelector("details");
    const list = [...box.children].find((child) => child.matches("ul, ol"));
    if (!answer) return;
    const reasons = answer.querySelectorAll(".sd-summary-content > :is(ul, ol) > li, .sd-card-body > :is(ul, ol) > li");
    const asked = list ? choices([...list.children], reasons, box) : answer.querySelector("strong") && figure(answer, box);
    if (!asked || (list && reasons.length !== list.children.length)) return;
    const row = document.createElement("div");
    row.className = "ask";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Check";
    const status = document.createElement("div");
    status.setAttribute("role", "status");
    const check = () => {
      const verdict = asked.judge();
      status.className = verdict ? (verdict.right ? "right" : "wrong") : "";
      status.replaceChildren(...(verdict ? verdict.reason : [document.createTextNode("Answer first, or open the answer.")]));
      if (verdict && verdict.right) answer.open = true;
    };
    button.addEventListener("click", check);
    asked.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        check();
      }
    });
    if (list) {
      list.replaceWith(asked.field);
      row.append(button);
    } else row.append(asked.field, button);
    answer.before(row, status);
  };

  // A displayed formula that is wider than the page becomes smaller, as far as one can still read it; then it scrolls.
  const fitFormulas = () => {
    for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
      formula.style.fontSize = "";
      const share = formula.clientWidth / formula.scrollWidth;
      if (share && share < 1) formula.style.fontSize = `${Math.max(0.7, 0.99 * share) * 100}%`;
    }
  };

  // A link into a fold opens it, in browsers, too, that do not do so by themselves.
  const arrive = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    let opened = false;
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) {
      opened = opened || !fold.open;
      fold.open = true;
    }
    if (opened) target.scrollIntoView();
  };

  // On paper nothing can be opened: all stands there but the evidence, which is as it was on the screen.
  let forPaper = [];
  const unfold = () => {
    forPaper = [...document.querySelectorAll("details:not(.evidence):not([open])")];
    forPaper.forEach((fold) => (fold.open = true));
  };
  const foldAgain = () => forPaper.forEach((fold) => (fold.open = false));

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".admonition.prediction").forEach(prepare);
    addSwitch();
    arrive();
  });
  window.addEventListener("load", () => window.MathJax?.startup?.promise.then(fitFormulas));
  window.addEventListener("hashchange", arrive);
  window.addEventListener("beforeprint", unfold);
  window.addEventListener("afterprint", foldAgain);
})();
