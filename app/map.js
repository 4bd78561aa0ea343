// The map: a picture of where rows lie, coloured here; a lasso, pointing, zoom. Data texts become text nodes or canvas text only.

const SIDE = 640, STEPS = 36 ** 3 - 1, CORNERS = 120;
const COLOURS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0", "#b8860b", "#008b8b", "#b9b9b9"];
const VERDICTS = { undecided: "#9aa5b1", accepted: "#0072b2", edited: "#009e73", rejected: "#d55e00" };
const SHARE = [[0, [140, 150, 165]], [0.02, [225, 190, 90]], [0.25, [230, 140, 30]], [1, [200, 55, 10]]];

const rgb = hex => [1, 3, 5].map(k => parseInt(hex.slice(k, k + 2), 16));
const count = n => n.toLocaleString("en");

function shareColour(v) {
  for (let k = 1; k < SHARE.length; k++) {
    const [a, from] = SHARE[k - 1], [b, to] = SHARE[k];
    if (v <= b) return from.map((c, i) => c + (to[i] - c) * (v - a) / (b - a));
  }
  return SHARE[SHARE.length - 1][1];
}

const colourOf = (data, k) => data.faint === 0 && VERDICTS[data.names[k]] ? VERDICTS[data.names[k]] : COLOURS[Math.min(k, COLOURS.length - 1)];

function paint(s, data) {       // from codes and densities to colours, with the name that is lit
  const raw = s.raw;
  if (!raw || s.key !== data.key) return;
  const out = new ImageData(SIDE, SIDE);
  const palette = data.names.map((_, k) => rgb(colourOf(data, k)));
  for (let k = 0, i = 0; k < SIDE * SIDE; k++, i += 4) {
    const what = raw[k], density = raw[SIDE * SIDE + k];
    if (!density) continue;
    const c = data.share ? shareColour(what / 255) : palette[what] ?? [128, 128, 128];
    const lit = s.lit === null || (data.share ? (what > 0) === (s.lit === 1) : what === s.lit);
    out.data[i] = c[0]; out.data[i + 1] = c[1]; out.data[i + 2] = c[2];
    out.data[i + 3] = (lit ? 95 + 160 * density / 255 : 18);
  }
  s.layer.getContext("2d").putImageData(out, 0, 0);
}

async function unpack(packed) {      // two planes of bytes: codes, then densities
  const bytes = Uint8Array.from(atob(packed), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function encode(points, whole) {
  const digits = (v, lo, hi) => Math.round(Math.min(1, Math.max(0, (v - lo) / (hi - lo))) * STEPS).toString(36).padStart(3, "0");
  const step = Math.max(1, Math.ceil(points.length / CORNERS));
  return points.filter((_, k) => k % step === 0).map(([x, y]) => digits(x, whole[0], whole[2]) + digits(y, whole[1], whole[3])).join("");
}

function decode(code, whole) {
  const out = [];
  for (let k = 0; k + 6 <= code.length; k += 6) {
    const [x, y] = [code.slice(k, k + 3), code.slice(k + 3, k + 6)].map(c => parseInt(c, 36) / STEPS);
    out.push([whole[0] + x * (whole[2] - whole[0]), whole[1] + y * (whole[3] - whole[1])]);
  }
  return out;
}

function build(root) {
  const s = { lit: null, lasso: [], labels: true, layer: document.createElement("canvas") };
  s.layer.width = s.layer.height = SIDE;
  s.tools = node("div", "cm-tools");
  s.frame = node("div", "cm-frame");
  s.canvas = node("canvas", "cm-canvas");
  s.canvas.tabIndex = 0;
  s.canvas.setAttribute("aria-label", "Map of the rows. Draw around rows with the mouse; plus and minus zoom, 0 shows the whole map, Escape takes the lasso away.");
  s.tip = node("div", "cm-tip");
  s.legend = node("div", "cm-legend");
  s.frame.append(s.canvas, s.tip);
  root.replaceChildren(s.tools, s.frame, s.legend);
  return s;
}

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  const root = parentElement.querySelector(".cm-map");
  const s = (parentElement.cm ??= build(root));
  if (!root.contains(s.frame)) root.replaceChildren(s.tools, s.frame, s.legend);
  const same = s.key === data.key;
  if (s.given !== data.lasso) {         // the server has it otherwise than the browser: a reload, or it was taken away
    s.given = data.lasso;
    s.lasso = decode(data.lasso, data.whole);
    s.sent = data.lasso;
  }
  if (!same) {
    s.key = data.key;
    s.shown ??= data.view.slice();      // what the picture covers: the one before stays until the new one is there
    if (!s.view || !s.moving) s.view = data.view.slice();
    s.lit = null;
    const key = data.key;
    unpack(data.image).then(raw => {
      if (s.key !== key) return;        // another view was asked for meanwhile
      s.raw = raw;
      s.shown = data.view.slice();
      paint(s, data);
      draw();
    });
  }
  const size = () => s.canvas.clientWidth || SIDE;
  const toMap = (px, py) => [s.view[0] + px / size() * (s.view[2] - s.view[0]), s.view[3] - py / size() * (s.view[3] - s.view[1])];
  const toPx = ([x, y]) => [(x - s.view[0]) / (s.view[2] - s.view[0]) * size(), (s.view[3] - y) / (s.view[3] - s.view[1]) * size()];

  function draw() {
    const scale = window.devicePixelRatio || 1, n = size();
    if (s.canvas.width !== Math.round(n * scale)) s.canvas.width = s.canvas.height = Math.round(n * scale);
    const g = s.canvas.getContext("2d");
    const style = getComputedStyle(root);
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, n, n);
    const [left, top] = toPx([s.shown[0], s.shown[3]]), [right, bottom] = toPx([s.shown[2], s.shown[1]]);
    g.imageSmoothingEnabled = (right - left) < 2 * SIDE;
    g.drawImage(s.layer, left, top, right - left, bottom - top);
    const ink = style.getPropertyValue("--st-text-color") || "#000", paper = style.getPropertyValue("--st-background-color") || "#fff";
    if (s.labels && !s.drawing) {
      g.font = `600 12px ${style.fontFamily}`;
      g.textAlign = "center";
      const taken = [];
      for (const label of data.labels) {
        const [x, point] = toPx([label.x, label.y]), y = point - 10;      // above its crowd
        const wide = g.measureText(label.name).width / 2 + 3, at = Math.max(wide, Math.min(n - wide, x));
        if (x < 0 || y < 8 || x > n || y > n || taken.some(t => Math.abs(t[0] - at) < t[2] + wide && Math.abs(t[1] - y) < 15)) continue;
        taken.push([at, y, wide]);
        g.lineWidth = 4;
        g.lineJoin = "round";
        g.strokeStyle = paper;
        g.strokeText(label.name, at, y);
        g.fillStyle = ink;
        g.fillText(label.name, at, y);
        if (label.on) {         // the cluster that is selected
          g.lineWidth = 2;
          g.strokeStyle = style.getPropertyValue("--st-primary-color") || ink;
          g.strokeRect(at - wide - 3, y - 13, 2 * wide + 6, 18);
        }
      }
    }
    if (s.lasso.length > 1) {
      g.beginPath();
      s.lasso.forEach((p, k) => g[k ? "lineTo" : "moveTo"](...toPx(p)));
      if (!s.drawing) g.closePath();
      g.globalAlpha = 0.1;
      g.fillStyle = ink;
      g.fill();
      g.globalAlpha = 1;
      g.lineWidth = 3.5;
      g.strokeStyle = paper;
      g.stroke();
      g.lineWidth = 1.8;
      g.strokeStyle = ink;
      g.stroke();
    }
    if (s.over !== null && s.over !== undefined) {
      const [x, y] = placeOf(s.over);
      g.beginPath();
      g.arc(x, y, 6, 0, 7);
      g.lineWidth = 2;
      g.strokeStyle = ink;
      g.stroke();
    }
  }

  const p = data.points;
  const placeOf = k => toPx([s.shown[0] + p.x[k] * (s.shown[2] - s.shown[0]), s.shown[3] - p.y[k] * (s.shown[3] - s.shown[1])]);
  function point(px, py) {      // the row nearest to the pointer, of those that can be pointed at
    let best = null, near = 18 * 18;
    for (let k = 0; k < p.row.length; k++) {
      const [x, y] = placeOf(k), d = (x - px) ** 2 + (y - py) ** 2;
      if (d < near) { near = d; best = k; }
    }
    s.over = best;
    s.tip.replaceChildren();
    s.tip.style.visibility = best === null ? "hidden" : "visible";
    if (best !== null) {
      const name = data.share ? data.names[p.code[best]] : data.names[Math.min(p.code[best], data.names.length - 1)];
      s.tip.append(node("b", "", `row ${count(p.row[best])}`), ` · ${name}`, node("div", "cm-words", p.text[best]));
      s.tip.style.left = px > size() / 2 ? "auto" : `${px + 14}px`;
      s.tip.style.right = px > size() / 2 ? `${size() - px + 14}px` : "auto";
      s.tip.style.top = `${Math.min(py + 10, size() - 60)}px`;
    }
    draw();
  }
  const leave = () => { s.over = null; s.tip.style.visibility = "hidden"; draw(); };

  function zoom(by, px = size() / 2, py = size() / 2) {
    const [x, y] = toMap(px, py), full = data.whole[2] - data.whole[0];
    const wide = Math.min(full, Math.max(full / 200, (s.view[2] - s.view[0]) * by)), k = wide / (s.view[2] - s.view[0]);
    look([x + (s.view[0] - x) * k, y + (s.view[1] - y) * k]);
    function look([left, bottom]) {
      left = Math.max(data.whole[0], Math.min(data.whole[2] - wide, left));
      bottom = Math.max(data.whole[1], Math.min(data.whole[3] - wide, bottom));
      moved([left, bottom, left + wide, bottom + wide]);
    }
  }
  function pan(dx, dy) {
    const wide = s.view[2] - s.view[0];
    const left = Math.max(data.whole[0], Math.min(data.whole[2] - wide, s.view[0] - dx / size() * wide));
    const bottom = Math.max(data.whole[1], Math.min(data.whole[3] - wide, s.view[1] + dy / size() * wide));
    moved([left, bottom, left + wide, bottom + wide]);
  }
  function moved(view) {
    s.view = view;
    s.moving = true;
    clearTimeout(s.asking);
    s.asking = setTimeout(() => { s.moving = false; setStateValue("view", s.view.map(v => +v.toFixed(5))); }, 250);
    leave();
  }
  function clear() {
    s.lasso = [];
    if (s.sent) { s.sent = ""; setTriggerValue("lasso", "-"); }
    draw();
  }

  const where = ev => { const box = s.canvas.getBoundingClientRect(); return [ev.clientX - box.left, ev.clientY - box.top]; };
  s.canvas.onpointerdown = ev => {
    if (ev.button !== 0) return;
    s.canvas.setPointerCapture(ev.pointerId);
    s.from = where(ev);
    s.last = s.from;
    s.panning = ev.shiftKey || s.pan;
    s.path = [toMap(...s.from)];
    leave();
  };
  s.canvas.onpointermove = ev => {
    const [x, y] = where(ev);
    if (!s.from) return point(x, y);
    if (s.panning) { pan(x - s.last[0], y - s.last[1]); s.last = [x, y]; return; }
    if (Math.hypot(x - s.last[0], y - s.last[1]) < 3) return;
    s.last = [x, y];
    s.drawing = true;
    s.path.push(toMap(x, y));
    s.lasso = s.path;
    draw();
  };
  s.canvas.onpointerup = ev => {
    if (!s.from) return;
    const [x, y] = where(ev), still = Math.hypot(x - s.from[0], y - s.from[1]) < 4 && s.path.length < 3;
    s.from = null;
    s.drawing = false;
    if (s.panning) return;
    if (still) {
      const [a, b] = toMap(x, y);
      setTriggerValue("spot", [a, b, 18 / size() * (s.view[2] - s.view[0])]);
    } else if (s.path.length > 2) {
      s.lasso = s.path;
      s.sent = encode(s.path, data.whole);
      setTriggerValue("lasso", s.sent);
    }
    draw();
  };
  s.canvas.onpointerleave = () => { if (!s.from) leave(); };
  s.canvas.onwheel = ev => { ev.preventDefault(); zoom(ev.deltaY > 0 ? 1.25 : 0.8, ...where(ev)); };
  s.canvas.onkeydown = ev => {
    if (ev.ctrlKey || ev.metaKey || ev.altKey) return;
    const step = size() / 8;
    const act = { "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1.4), 0: () => moved(data.whole.slice()), Escape: clear,
      ArrowLeft: () => pan(step, 0), ArrowRight: () => pan(-step, 0), ArrowUp: () => pan(0, step), ArrowDown: () => pan(0, -step) }[ev.key];
    if (act) { act(); ev.preventDefault(); }
  };

  const tool = (word, key, hint, act, on) => {
    const b = node("button", on ? "cm-tool cm-on" : "cm-tool");
    b.append(node("span", "", word));
    if (key) b.append(node("kbd", "", key));
    b.title = hint;
    b.onclick = () => { act(); tools(); };
    return b;
  };
  function tools() {
    s.tools.replaceChildren(
      tool("Lasso", "", "Draw around rows", () => { s.pan = false; }, !s.pan),
      tool("Move", "shift", "Drag the map; with the other tool: hold shift", () => { s.pan = true; }, s.pan),
      tool("In", "+", "Zoom in; the wheel does it too", () => zoom(0.7)),
      tool("Out", "−", "Zoom out", () => zoom(1.4)),
      tool("Whole map", "0", "Show every row", () => moved(data.whole.slice())),
      tool("Names", "", "Names of the clusters", () => { s.labels = !s.labels; draw(); }, s.labels),
      tool("Clear", "Esc", "Take the lasso away", clear));
  }
  function legend() {
    s.legend.replaceChildren(...data.names.map((name, k) => {
      const b = node("button", "cm-name");
      const dot = node("i");
      dot.style.background = data.share ? `rgb(${shareColour(k ? 1 : 0).map(Math.round).join(",")})` : colourOf(data, k);
      b.append(dot, node("span", "cm-label", name), node("span", "cm-count", count(data.counts[k])));
      b.title = "Point here to light it up";
      const light = on => { s.lit = on ? k : null; paint(s, data); draw(); };
      b.onpointerenter = b.onfocus = () => light(true);
      b.onpointerleave = b.onblur = () => light(false);
      return b;
    }));
  }
  tools();
  legend();
  draw();
  s.watch?.disconnect();
  s.watch = new ResizeObserver(() => draw());
  s.watch.observe(s.frame);
  return () => { s.watch.disconnect(); clearTimeout(s.asking); };
}
