// Python in a worker of its own, so that an endless loop leaves the page alive. It is started from this function's text,
// for a page that was opened from file:// may load no worker from a file. All it needs is handed to it in messages.
"use strict";

window.bnkit = window.bnkit || {};

window.bnkit.pythonWorker = function () {
  const files = new Map(); // name -> bytes, verified
  let pyodide = null;
  let session = null;

  // SHA-256 (FIPS 180-4). The browser's own is missing on pages served over plain http.
  function sha256(bytes) {
    const primes = [];
    for (let n = 2; primes.length < 64; n += 1) if (primes.every((p) => n % p)) primes.push(n);
    const fraction = (x) => Math.floor((x - Math.floor(x)) * 2 ** 32);
    const k = Uint32Array.from(primes, (p) => fraction(Math.cbrt(p)));
    const state = Uint32Array.from(primes.slice(0, 8), (p) => fraction(Math.sqrt(p)));
    const blocks = Math.ceil((bytes.length + 9) / 64);
    const w = new Uint32Array(64);
    const tail = new Uint8Array(128);
    const whole = Math.floor(bytes.length / 64);
    tail.set(bytes.subarray(64 * whole));
    tail[bytes.length - 64 * whole] = 0x80;
    new DataView(tail.buffer).setBigUint64(64 * (blocks - whole) - 8, BigInt(bytes.length) * 8n);
    for (let block = 0; block < blocks; block += 1) {
      const [source, at] = block < whole ? [bytes, 64 * block] : [tail, 64 * (block - whole)];
      for (let i = 0; i < 16; i += 1) {
        const j = at + 4 * i;
        w[i] = (source[j] << 24) | (source[j + 1] << 16) | (source[j + 2] << 8) | source[j + 3];
      }
      for (let i = 16; i < 64; i += 1) {
        const a = w[i - 15];
        const b = w[i - 2];
        const s0 = ((a >>> 7) | (a << 25)) ^ ((a >>> 18) | (a << 14)) ^ (a >>> 3);
        const s1 = ((b >>> 17) | (b << 15)) ^ ((b >>> 19) | (b << 13)) ^ (b >>> 10);
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
      }
      let [a, b, c, d, e, f, g, h] = state;
      for (let i = 0; i < 64; i += 1) {
        const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
        const t1 = (h + s1 + ((e & f) ^ (~e & g)) + k[i] + w[i]) | 0;
        const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
        const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        h = g;
        g = f;
        f = e;
        e = (d + t1) | 0;
        d = c;
        c = b;
        b = a;
        a = (t1 + t2) | 0;
      }
      [a, b, c, d, e, f, g, h].forEach((value, i) => (state[i] += value));
    }
    return Array.from(state, (value) => value.toString(16).padStart(8, "0")).join("");
  }

  function decode(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  function take(name, base64, digest) {
    let bytes = null;
    try {
      bytes = decode(base64);
    } catch {
      /* no base64 */
    }
    if (!bytes || sha256(bytes) !== digest) throw new Error(`the file ${name} is not the one that this book was built with (its SHA-256 differs), and was not used`);
    files.set(name, bytes);
  }

  // Pyodide asks for its files by address; it gets those that were handed over, and nothing from anywhere else.
  self.fetch = async (address) => {
    const name = String(address.url || address).split("/").pop();
    if (!files.has(name)) throw new TypeError(`${name} is not among the files of this book`);
    const kind = name.endsWith(".wasm") ? "application/wasm" : name.endsWith(".json") ? "application/json" : "application/octet-stream";
    return new Response(files.get(name), { headers: { "Content-Type": kind } });
  };

  const evaluate = (name) => (0, eval)(new TextDecoder().decode(files.get(name)));
  const tell = (kind, text = "") => self.postMessage({ kind, text });

  async function start({ sources, packages, interrupt }) {
    evaluate("pyodide.asm.js");
    evaluate("pyodide.js");
    const env = { HOME: "/home/pyodide", MPLBACKEND: "AGG", PYTHONPATH: "/home/pyodide" };
    pyodide = await self.loadPyodide({ indexURL: "https://book.invalid/", env, stdout: () => {}, stderr: () => {} });
    await pyodide.loadPackage(packages, { messageCallback: () => {} });
    for (const [path, text] of Object.entries(sources)) {
      const place = `/home/pyodide/${path}`;
      pyodide.FS.mkdirTree(place.slice(0, place.lastIndexOf("/")));
      pyodide.FS.writeFile(place, text);
    }
    if (interrupt) pyodide.setInterruptBuffer(interrupt);
    session = pyodide.pyimport("bnkit.page.live").Session(tell);
  }

  self.onmessage = async ({ data }) => {
    try {
      for (const [name, base64, digest] of data.files || []) take(name, base64, digest);
      if (data.do === "start") await start(data);
      if (data.do === "install") await pyodide.loadPackage(data.packages, { messageCallback: () => {} });
      if (data.do === "needs") return tell("needs", pyodide.pyimport("bnkit.page.live").needs(data.code).toJs().join(" "));
      if (data.do === "run") return tell("ran", String(session.run(data.code, data.name)));
      tell("ready");
    } catch (problem) {
      tell("failed", String(problem.message || problem));
    }
  };
};
