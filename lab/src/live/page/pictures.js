// The pictures. Each is a function of what was received and draws on one canvas.

/// Where an activation is flat, and the part of its input that is drawn. `saturated` counts the same inputs.
const SHAPES = {
  "relu": { axis: [-6, 6], flat: [[-99, 0]], of: (x) => Math.max(x, 0) },
  "tanh": { axis: [-4, 4], flat: [[-99, -2.09], [2.09, 99]], of: Math.tanh },
  "sigmoid": { axis: [-8, 8], flat: [[-99, -3.48], [3.48, 99]], of: (x) => 1 / (1 + Math.exp(-x)) },
  "leaky-relu": { axis: [-6, 6], flat: [], of: (x) => Math.max(x, 0.01 * x) },
  "gelu": { axis: [-6, 6], flat: [], of: (x) => x / (1 + Math.exp(-1.702 * x)) },
  "selu": { axis: [-6, 6], flat: [], of: (x) => 1.0507 * (x > 0 ? x : 1.6733 * (Math.exp(x) - 1)) },
  "silu": { axis: [-6, 6], flat: [], of: (x) => x / (1 + Math.exp(-x)) },
};
const SPREAD = [1e-4, 10];
const log = (value) => Math.log10(value);

/// The counts of a histogram on another axis, in `bins` equal bins; what lies outside is counted at the ends.
function rebin([low, high], counts, below, above, axis, bins) {
  const shares = new Float64Array(bins);
  const step = (axis[1] - axis[0]) / bins;
  const each = (high - low) / counts.length;
  let left = below;
  let right = above;
  counts.forEach((count, index) => {
    if (count === 0) return;
    const from = low + index * each;
    const to = from + each;
    if (to <= axis[0]) { left += count; return; }
    if (from >= axis[1]) { right += count; return; }
    const first = within(Math.floor((from - axis[0]) / step), [0, bins - 1]);
    const last = within(Math.ceil((to - axis[0]) / step) - 1, [first, bins - 1]);
    if (from < axis[0]) left += count * (axis[0] - from) / each;
    if (to > axis[1]) right += count * (to - axis[1]) / each;
    for (let bin = first; bin <= last; bin += 1) {
      const start = Math.max(from, axis[0] + bin * step);
      const end = Math.min(to, axis[0] + (bin + 1) * step);
      shares[bin] += each > 0 ? count * Math.max(end - start, 0) / each : count;
    }
  });
  return { shares, left, right };
}

/// Bars of a histogram in a box. Values outside the axis stand as bars of the warning colour at its ends.
function histogram(context, histogram, axis, [x, y, width, height], color) {
  if (!histogram) return;
  const bins = within(Math.floor(width / 3), [12, 80]);
  const [low, high] = histogram.range;
  if (low === null || high === null) return;
  const { shares, left, right } = rebin([low, high], histogram.counts, histogram.below, histogram.above, axis, bins);
  const most = Math.max(...shares, left, right);
  if (most === 0) return;
  const each = width / bins;
  context.beginPath();
  shares.forEach((share, bin) => {
    const tall = Math.max(share / most * height, share > 0 ? 1 : 0);
    context.rect(x + bin * each, y + height - tall, Math.max(each - 0.5, 1), tall);
  });
  context.fillStyle = color;
  context.fill();
  box(context, x, y + height * (1 - left / most), 3, height * left / most, theme.bad);
  box(context, x + width - 3, y + height * (1 - right / most), 3, height * right / most, theme.bad);
}

/// The activation over the drawn part of its input, its flat ends shaded.
function activationCurve(context, name, [x, y, width, height]) {
  const { axis, flat, of } = SHAPES[name];
  const at = (value) => x + place(value, axis) * width;
  for (const [from, to] of flat) {
    context.globalAlpha = 0.16;
    box(context, at(from), y, at(to) - at(from), height, theme.flat);
    context.globalAlpha = 0.5;
    hatch(context, at(from), y, at(to) - at(from), height, theme.flat);
    context.globalAlpha = 1;
  }
  const points = Array.from({ length: 41 }, (_, index) => axis[0] + (axis[1] - axis[0]) * index / 40);
  const low = Math.min(...points.map(of));
  const high = Math.max(...points.map(of));
  line(context, points.map((value) => [at(value), y + height - 1 - place(of(value), [low, high]) * (height - 2)]), theme.faint, { width: 1 });
}

/// The normal distribution that the theory predicts, as a dashed line of the height of the box.
function predicted(context, std, axis, [x, y, width, height]) {
  if (!std || !Number.isFinite(std)) return;
  const steps = within(Math.floor(width / 3), [20, 60]);
  const points = Array.from({ length: steps + 1 }, (_, index) => {
    const value = axis[0] + (axis[1] - axis[0]) * index / steps;
    return [x + index / steps * width, y + height - Math.exp(-((value / std) ** 2) / 2) * (height - 1)];
  });
  // A prediction narrower than two bins is a line straight up.
  const narrow = std < (axis[1] - axis[0]) / 80;
  const middle = x + width / 2;
  line(context, narrow ? [[middle, y], [middle, y + height]] : points, theme.ink, { width: 1.2, dash: [3, 2] });
}

/// An axis for the values of all layers of a network: four times the root mean square of the widest, rounded up.
function valueAxis({ layers }) {
  const size = Math.max(...layers.map(({ mean, std }) => 4 * Math.hypot(mean, std)));
  const high = 2 ** Math.ceil(Math.log2(size || 1));
  return [-high, high];
}

/// How the rows of the layers' picture are divided, for the width and number of layers.
function layerRows(width, depth) {
  const row = within(Math.floor(380 / depth), [19, 38]);
  const label = 22;
  const gap = width > 300 ? 10 : 5;
  const rest = width - label - 2 * gap;
  return {
    row, head: 18,
    pre: [label, rest * 0.5],
    gradient: [label + rest * 0.5 + gap, rest * 0.26],
    spread: [label + rest * 0.76 + 2 * gap, rest * 0.24],
    height: 18 + row * depth,
  };
}

/// The activation's curve as an image: drawn once for all layers, as hatching takes most of a redraw.
function backdrop(activation, width, height) {
  const image = new OffscreenCanvas(Math.ceil(2 * width), 2 * height);
  const context = image.getContext("2d");
  context.scale(2, 2);
  activationCurve(context, activation, [0, 0, width, height]);
  return image;
}

/// All layers of a network: the input side at the top.
function drawLayers(canvas, network, view) {
  const depth = network.layers.length;
  const rows = layerRows(canvas.clientWidth, depth);
  const context = fit(canvas, rows.height);
  if (!context) return;
  const titles = [["pre", t("head_pre")], ["gradient", t("head_gradient")], ["spread", t("head_spread")]];
  for (const [part, text] of titles) say(context, text, rows[part][0], 8, { size: context.wide < 240 ? 9.5 : 11, color: theme.faint, most: rows[part][1] });
  const tall = rows.row - 4;
  const behind = view.activation && backdrop(view.activation, rows.pre[1], tall);
  network.layers.forEach((layer, index) => {
    const y = rows.head + index * rows.row;
    if (index === view.selected) box(context, 0, y - 2, context.wide, rows.row, theme.card);
    aside(context, String(index), 16, y + tall / 2, "right");
    const pre = [rows.pre[0], y, rows.pre[1], tall];
    if (behind) context.drawImage(behind, ...pre);
    histogram(context, layer.pre, view.axis, pre, view.color);
    predicted(context, view.theory?.[index]?.pre_std, view.axis, pre);
    if (tall > 20 && rows.pre[1] > 130) drawStd(context, behind ? "" : `${layer.name} · `, layer, pre);
    drawGradient(context, layer.gradient, view.gradientAxis, [rows.gradient[0], y, rows.gradient[1], tall], view.color);
    drawSpread(context, layer, view.theory?.[index], [rows.spread[0], y, rows.spread[1], tall]);
    if (index === view.selected) line(context, [[1, y - 2], [1, y + rows.row - 2]], theme.ink, { width: 2 });
  });
}

function drawStd(context, name, layer, [x, y, width]) {
  const text = `${name}std ${number(layer.pre_std ?? layer.std)}`;
  context.font = "10px system-ui, sans-serif";
  const wide = context.measureText(text).width;
  context.globalAlpha = 0.8;
  box(context, x + width - wide - 4, y, wide + 4, 12, theme.paper);
  context.globalAlpha = 1;
  say(context, text, x + width - 2, y + 6, { align: "right", size: 10 });
}

function drawGradient(context, gradient, axis, [x, y, width, height], color) {
  box(context, x, y + height - 1, width, 1, theme.line);
  if (!gradient) return;
  if (gradientRange(gradient)) histogram(context, { ...gradient, range: gradient.log }, axis, [x, y, width, height], color);
  else say(context, "0", x + 3, y + height / 2, { size: 11, bold: true, color: theme.bad });
}

/// Two bars on a log scale: the spread between inputs above, between units below.
function drawSpread(context, layer, theory, [x, y, width, height]) {
  const axis = SPREAD.map(log);
  const tall = (height - 3) / 2;
  const bars = [[layer.between_inputs, y, theme.inputs], [layer.between_units, y + tall + 3, theme.units]];
  for (const [value, top, color] of bars) {
    box(context, x, top, width, tall, theme.card);
    if (value > 0) box(context, x, top, Math.max(place(log(value), axis) * width, 1), tall, color);
  }
  const expected = theory?.between_inputs;
  if (expected > 0) {
    const at = x + place(log(expected), axis) * width;
    line(context, [[at, y - 1], [at, y + tall + 1]], theme.ink, { dash: [2, 1] });
  }
}

/// The range of log10 in which a layer's gradients lie, or null if all are 0.
function gradientRange({ log: [low, high], counts, below, above }) {
  const first = below > 0 ? 0 : counts.findIndex((count) => count > 0);
  const last = above > 0 ? counts.length - 1 : counts.findLastIndex((count) => count > 0);
  if (low === null || (first < 0 && above === 0) || (last < 0 && below === 0)) return null;
  const each = (high - low) / counts.length;
  return [low + Math.max(first, 0) * each, low + (Math.max(last, 0) + 1) * each];
}

/// The range of log10 of gradients over all layers of all networks, in whole decades.
function gradientAxis(frame, before) {
  let [low, high] = before ?? [-4, -3];
  for (const network of frame.networks) {
    for (const { gradient } of network.layers) {
      const range = gradient && gradientRange(gradient);
      if (!range) continue;
      low = Math.min(low, Math.floor(range[0]));
      high = Math.max(high, Math.ceil(range[1]));
    }
  }
  return [Math.max(low, high - 16), high];
}

/// What a heat map shows: the number, its limits on the colour scale, and how the limits are written.
const HEATS = {
  std: { value: log, axis: [-3, 1], ends: ["0.001", "10"] },
  saturated: { value: (share) => share, axis: [0, 1], ends: ["0\u00a0%", "100\u00a0%"] },
  update: { value: (power) => power, axis: [-6, 0], ends: ["10⁻⁶", "1"] },
};

/// Layers down, steps across.
function drawHeat(canvas, points, id, key, steps, moment) {
  const { value, axis } = HEATS[key];
  const seen = points.filter((point) => point.networks.has(id));
  const depth = seen.at(-1)?.networks.get(id).std.length ?? 0;
  const context = fit(canvas, within(depth * 12, [84, 240]) + 16);
  if (!context || depth === 0) return;
  const inner = [22, 2, context.wide - 24, context.tall - 18];
  const columns = Math.min(Math.floor(inner[2]), 400);
  const nearest = columnPoints(seen, steps, columns);
  cells(context, columns, depth, inner, (column, row) => {
    const found = nearest[column]?.networks.get(id)[key][row];
    return mapped(place(value(found), axis));
  });
  for (const row of [0, depth - 1]) {
    aside(context, String(row), 17, inner[1] + (row + 0.5) / depth * inner[3], "right");
  }
  stepsBelow(context, inner, steps);
  momentLine(context, inner, moment, steps);
}

/// For each column the newest point at or before its step.
function columnPoints(points, [from, to], columns) {
  const found = new Array(columns).fill(null);
  let next = 0;
  for (let column = 0; column < columns; column += 1) {
    const step = from + (column + 1) / columns * (to - from);
    while (next < points.length && points[next].step <= step) next += 1;
    if (next > 0) found[column] = points[next - 1];
  }
  return found;
}

function stepsBelow(context, [x, y, width, height], [from, to]) {
  const at = y + height + 9;
  aside(context, String(from), x, at);
  aside(context, t("steps", { n: to }), x + width, at, "right");
}

function momentLine(context, [x, y, width, height], moment, steps) {
  if (moment === null) return;
  const at = x + place(moment, steps) * width;
  for (const [color, wide] of [[theme.paper, 4], [theme.ink, 2]]) line(context, [[at, y], [at, y + height]], color, { width: wide });
}

/// Room beside the curves, for the numbers of the axis and the letters of the networks.
const CURVE = { left: 42, right: 22 };

/// Curves of all networks on one pair of axes. `guess` is where guessing lies.
function drawCurves(canvas, series, { ticks, axis, of = (value) => value, guess, steps, moment }) {
  const context = fit(canvas);
  if (!context) return;
  const inner = [CURVE.left, 8, context.wide - CURVE.left - CURVE.right, context.tall - 26];
  const [x, y, width, height] = inner;
  const across = (step) => x + place(step, steps) * width;
  const down = (value) => y + height - place(of(value), axis.map(of)) * height;
  for (const [value, text] of ticks) {
    line(context, [[x, down(value)], [x + width, down(value)]], theme.line, { width: 1 });
    aside(context, text, x - 5, down(value), "right");
  }
  line(context, [[x, down(guess)], [x + width, down(guess)]], theme.faint, { width: 1, dash: [1, 3] });
  aside(context, t("guessing"), x + width, down(guess) - 7, "right");
  const ends = series.map(({ points, at }) => {
    const drawn = points.map(([step, value]) => [across(step), value === null ? NaN : down(value)]);
    line(context, drawn, NETWORK_COLORS[at], { width: 2, dash: NETWORK_DASHES[at] });
    return { at, end: drawn.findLast(([, there]) => Number.isFinite(there)) };
  });
  letterEnds(context, ends.filter((it) => it.end));
  stepsBelow(context, inner, steps);
  momentLine(context, inner, moment, steps);
}

/// The letter of each network at the end of its curve, none on another or below the picture.
function letterEnds(context, ends) {
  ends.sort((a, b) => a.end[1] - b.end[1]);
  let free = 0;
  for (const [index, { at, end: [x, y] }] of ends.entries()) {
    const there = Math.max(Math.min(y, context.tall - 20 - 13 * (ends.length - 1 - index)), free);
    free = there + 13;
    box(context, x + 4, there - 7, 14, 14, NETWORK_COLORS[at]);
    say(context, letter(at), x + 11, there, { align: "center", size: 11, bold: true, color: "#ffffff" });
  }
}

/// Pictures of digits as images, made once.
function digitImages(digits) {
  return digits.map(({ pixels, label }) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 28;
    const image = new ImageData(28, 28);
    const values = bytesOf(pixels);
    values.forEach((value, index) => image.data.set([value, value, value, 255], 4 * index));
    canvas.getContext("2d").putImageData(image, 0, 0);
    return { canvas, label, values };
  });
}

/// Test digits with a network's answers. A wrong one has a frame, a cross and the answer in its corner.
function drawDigits(canvas, images, answers) {
  const columns = 12;
  const each = Math.floor(canvas.clientWidth / columns);
  const context = fit(canvas, each * Math.ceil(images.length / columns));
  if (!context) return;
  images.forEach(({ canvas: picture, label }, index) => {
    const x = (index % columns) * each;
    const y = Math.floor(index / columns) * each;
    context.imageSmoothingEnabled = true;
    context.drawImage(picture, x + 1, y + 1, each - 2, each - 2);
    const answer = answers?.[index]?.answer;
    if (answer === undefined || answer === label) return;
    context.strokeStyle = "#ff9b57";
    context.lineWidth = 2;
    context.strokeRect(x + 2, y + 2, each - 4, each - 4);
    const size = Math.max(each * 0.42, 9);
    box(context, x + each - size, y + each - size, size - 1, size - 1, "#ff9b57");
    say(context, String(answer), x + each - size / 2 - 0.5, y + each - size / 2, { align: "center", size: size - 1, bold: true, color: "#1a1b1c" });
  });
}

/// Inputs down, units across.
function drawUnits(canvas, units) {
  const context = fit(canvas, 150);
  if (!context || !units) return;
  const values = bytesOf(units.values);
  cells(context, units.columns, units.rows, [0, 0, context.wide, context.tall],
    (column, row) => mapped(values[row * units.columns + column] / 255));
}

/// One layer, large: the histogram on the activation, with its axis.
function drawLayer(canvas, layer, view, theory) {
  const context = fit(canvas, 150);
  if (!context) return;
  const { axis } = view;
  const inner = [4, 4, context.wide - 8, context.tall - 24];
  if (view.activation) activationCurve(context, view.activation, inner);
  histogram(context, layer.pre, axis, inner, view.color);
  predicted(context, theory?.pre_std, axis, inner);
  axisBelow(context, inner, axis, [axis[0], 0, axis[1]].map((value) => [value, number(value)]));
}

function drawLayerGradient(canvas, layer, view) {
  const context = fit(canvas, 96);
  if (!context) return;
  const inner = [4, 4, context.wide - 8, context.tall - 24];
  drawGradient(context, layer.gradient, view.gradientAxis, inner, view.color);
  const [low, high] = view.gradientAxis;
  const middle = Math.round((low + high) / 2);
  axisBelow(context, inner, view.gradientAxis, [low, middle, high].map((power) => [power, power === 0 ? "1" : scientific(10 ** power, 1).replace("1·", "")]));
}

function axisBelow(context, [x, y, width, height], axis, ticks) {
  box(context, x, y + height, width, 1, theme.faint);
  ticks.forEach(([value, text], index) => {
    const align = ["left", "center", "right"][index];
    aside(context, text, x + place(value, axis) * width, y + height + 10, align);
  });
}

/// The std at the input and the output of a batch norm, and its running statistics chasing the batch's.
function drawNorm(canvas, norm) {
  const context = fit(canvas, 128);
  if (!context) return;
  const label = Math.min(110, context.wide * 0.34);
  const bar = [label, context.wide - label - 48];
  const axis = SPREAD.map(log);
  [[t("std_in"), norm.input_std], [t("std_out"), norm.output_std]].forEach(([text, value], index) => {
    const y = 12 + index * 22;
    say(context, text, 0, y, { size: 11, most: label - 4 });
    box(context, bar[0], y - 7, bar[1], 14, theme.card);
    if (value > 0) box(context, bar[0], y - 7, place(log(value), axis) * bar[1], 14, theme.inputs);
    say(context, number(value), bar[0] + bar[1] + 4, y, { size: 11 });
  });
  const needles = norm.channel;
  gauge(context, t("mean"), needles.batch_mean, needles.running_mean, 70, label, bar);
  gauge(context, t("variance"), needles.batch_var, needles.running_var, 104, label, bar);
}

/// A gauge with two needles: thin and long for the batch, a triangle for the running average.
function gauge(context, name, batch, running, y, label, [x, width]) {
  say(context, name, 0, y, { size: 11, most: label - 4 });
  box(context, x, y + 5, width, 1, theme.faint);
  if (batch === null || running === null) return;
  const most = Math.max(Math.abs(batch), Math.abs(running), 1e-12) * 1.15;
  const axis = Math.min(batch, running) < 0 ? [-most, most] : [0, most];
  const at = (value) => x + place(value, axis) * width;
  box(context, at(0), y + 2, 1, 7, theme.faint);
  line(context, [[at(batch), y - 10], [at(batch), y + 10]], NETWORK_COLORS[0], { width: 2 });
  context.fillStyle = NETWORK_COLORS[1];
  context.beginPath();
  context.moveTo(at(running), y + 5);
  context.lineTo(at(running) - 5, y + 14);
  context.lineTo(at(running) + 5, y + 14);
  context.fill();
  say(context, number(batch), x + width + 4, y - 6, { size: 11, color: theme.dark ? "#7cb8f5" : NETWORK_COLORS[0] });
  say(context, number(running), x + width + 4, y + 8, { size: 11, color: theme.dark ? "#ff9b57" : "#a84a00" });
}

/// The probability of each of ten digits, as bars; the answer stands out.
function drawProbabilities(canvas, answer, at) {
  const context = fit(canvas, 74);
  if (!context || !answer) return;
  const each = context.wide / CLASSES;
  answer.probabilities.forEach((share, digit) => {
    const tall = (share ?? 0) * (context.tall - 18);
    box(context, digit * each + 2, context.tall - 16 - tall, each - 4, tall, NETWORK_COLORS[at]);
    say(context, String(digit), (digit + 0.5) * each, context.tall - 7, { align: "center", size: 12, bold: digit === answer.digit });
  });
}
