// Drawing on a canvas: sizes, colours, axes, and marks that need no colour to be told apart.

/// Networks by place, as in the report: colours of Okabe and Ito, with a dash each.
const NETWORK_COLORS = ["#0072b2", "#d55e00", "#009e73", "#9a45e6"];
const NETWORK_DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];

/// Colours of the theme, read once per redraw.
let theme = {};

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "ink", "faint", "line", "card", "bad", "inputs", "units", "flat"]) {
    theme[name] = style.getPropertyValue(`--${name}`).trim();
  }
  theme.dark = matchMedia("(prefers-color-scheme: dark)").matches;
}

/// Fits a canvas to its box and returns its context, in CSS pixels, cleared. Null while it is not shown.
function fit(canvas, height) {
  const width = canvas.clientWidth;
  if (width === 0) return null;
  const ratio = Math.min(devicePixelRatio || 1, 2);
  if (height !== undefined && canvas.style.height !== `${height}px`) canvas.style.height = `${height}px`;
  const tall = height ?? canvas.clientHeight;
  const [w, h] = [Math.round(width * ratio), Math.round(tall * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, tall);
  return Object.assign(context, { wide: width, tall });
}

function say(context, text, x, y, { align = "left", color = theme.ink, size = 12, bold = false, most } = {}) {
  context.font = `${bold ? "600 " : ""}${size}px system-ui, sans-serif`;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.fillStyle = color;
  context.fillText(text, x, y, most);
}

/// A text beside a picture.
function aside(context, text, x, y, align) {
  say(context, text, x, y, { align, size: 11, color: theme.faint });
}

function line(context, points, color, { width = 1.5, dash = [] } = {}) {
  context.beginPath();
  let down = false;
  for (const [x, y] of points) {
    if (!Number.isFinite(y)) { down = false; continue; }
    down ? context.lineTo(x, y) : context.moveTo(x, y);
    down = true;
  }
  context.strokeStyle = color;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

function box(context, x, y, width, height, color) {
  context.fillStyle = color;
  context.fillRect(x, y, width, height);
}

/// Slanted lines over a box: a mark for "saturated" that needs no colour.
function hatch(context, x, y, width, height, color) {
  if (width <= 0) return;
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.beginPath();
  for (let at = x - height; at < x + width; at += 6) {
    context.moveTo(at, y + height);
    context.lineTo(at + height, y);
  }
  context.strokeStyle = color;
  context.lineWidth = 1;
  context.stroke();
  context.restore();
}

/// The place of a value between two limits: 0 to 1, held within.
function place(value, [low, high]) {
  return within((value - low) / (high - low), [0, 1]);
}

/// The colour map of the heat maps (viridis): even steps of lightness, the same to colour-blind readers.
const MAP = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];

function mapped(share) {
  if (!Number.isFinite(share)) return null;
  const at = within(share, [0, 1]) * (MAP.length - 1);
  const low = Math.min(Math.floor(at), MAP.length - 2);
  return MAP[low].map((from, index) => Math.round(from + (MAP[low + 1][index] - from) * (at - low)));
}

/// An image of cells, drawn without smoothing. `color(column, row)` gives [r, g, b] or null.
function cells(context, columns, rows, [x, y, width, height], color) {
  if (columns < 1 || rows < 1) return;
  const image = new ImageData(columns, rows);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const found = color(column, row);
      if (found) image.data.set([...found, 255], 4 * (row * columns + column));
    }
  }
  scratch.width = columns;
  scratch.height = rows;
  scratch.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(scratch, x, y, width, height);
}
const scratch = document.createElement("canvas");

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (it) => it.charCodeAt(0));
}
