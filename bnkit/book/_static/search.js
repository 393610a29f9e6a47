// What a search result shows: the passage of the page that fits best, with its formulas drawn, from a script that comes
// with the site. So it works for pages that are opened as files, too. Plain JavaScript, no request to anywhere.
"use strict";

var wordsFound = () => 0; // how often the words occur on a page, on a scale from 0 to 12: for scorer.js

(() => {
  if (typeof Search === "undefined") return;
  const root = document.documentElement.dataset.content_root || "./";
  const LENGTH = 240; // characters of a passage
  let words = [];

  const once = (load) => {
    let promise;
    return () => (promise ??= load());
  };
  const script = (address) =>
    new Promise((done) => {
      const element = document.createElement("script");
      element.src = root + address;
      element.onload = element.onerror = () => done();
      document.head.append(element);
    });
  const texts = once(() => script("_static/searchtext.js").then(() => (typeof SearchTexts === "undefined" ? {} : SearchTexts)));
  const mathjax = once(async () => {
    if (!window.MathJax?.typesetPromise) {
      window.MathJax = { ...window.MathJax, startup: { typeset: false } };
      await script("_static/mathjax/tex-svg-full.js");
      await window.MathJax.startup.promise;
    }
  });

  const count = (text) => {
    const small = text.toLowerCase();
    return words.reduce((sum, word) => sum + small.split(word).length - 1, 0);
  };
  // every word once is worth more than one word often, and a section for all more than a folded one
  const fit = ([, title, text]) => {
    const small = `${title} ${text}`.toLowerCase();
    const folded = title.startsWith("For the curious") ? 20 : 0;
    return -folded + 100 * words.filter((word) => small.includes(word)).length + 10 * count(title) + Math.min(9, count(text));
  };

  const passage = (text) => {
    const small = text.toLowerCase();
    const places = words.map((word) => small.indexOf(word)).filter((place) => place >= 0);
    let start = Math.max(0, Math.min(...places, text.length) - LENGTH / 3);
    start = start && text.indexOf(" ", start) + 1;
    let end = Math.min(text.length, start + LENGTH);
    if (end < text.length) end = Math.max(text.lastIndexOf(" ", end), start + 1);
    // no formula is cut: of one that the passage begins or ends in, all is shown
    for (const { index, 0: formula } of text.matchAll(/\\\(.*?\\\)/g)) {
      if (index < start && start < index + formula.length) start = index;
      if (index < end && end < index + formula.length) end = index + formula.length;
    }
    return (start ? "… " : "") + text.slice(start, end) + (end < text.length ? " …" : "");
  };

  const show = async (item) => {
    const link = item.querySelector("a");
    const [, page] = link.getAttribute("href").match(/(?:.*\/)?(chapters\/[^#?]*?)\.html/) || [];
    const sections = (await texts())[page];
    if (!sections || item.querySelector(".context")) return;
    const anchor = link.hash.slice(1);
    const [place, title, text] = sections.find((section) => anchor && section[0] === anchor) || [...sections].sort((a, b) => fit(b) - fit(a))[0];
    if (!anchor && place !== sections[0][0]) {
      link.href = `${link.getAttribute("href")}#${place}`;
      link.append(` › ${title}`);
    }
    const context = document.createElement("p");
    context.className = "context";
    context.textContent = passage(text);
    item.append(context);
    if (item.textContent.includes("\\(")) {
      await mathjax();
      await window.MathJax?.typesetPromise?.([item]);
    }
  };

  const perform = Search.performSearch;
  Search.performSearch = async (query) => {
    const pages = await texts();
    words = splitQuery(query.toLowerCase()).filter((word) => word.length > 1);
    wordsFound = (page) => {
      const all = (pages[page] || []).map(([, title, text]) => `${title} ${text}`).join(" ");
      return Math.min(12, 2 * Math.log2(1 + count(all)));
    };
    perform(query);
  };
  new MutationObserver((changes) => {
    for (const change of changes)
      for (const node of change.addedNodes) if (node.matches?.("ul.search > li")) show(node);
  }).observe(document.body, { childList: true, subtree: true });
})();
