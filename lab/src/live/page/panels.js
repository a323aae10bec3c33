// The panels under the bench: one layer, heat maps, the pad, the test set, findings and curves.

/// One layer of one network, with what can be done to it.
class LayerPanel extends Panel {
  constructor(lab, id) {
    super(lab, id);
    this.pre = picture(t("head_pre"));
    this.gradient = picture(t("gradient_axis"));
    this.units = picture(t("units_map"));
    this.norm = picture(t("norm"));
    this.text = note();
    this.unitsText = note();
    this.normPart = make("div", { className: "norm" },
      make("h4", {}, t("norm")), this.norm, note(t("norm_key")),
      this.handle("gamma", 0, 3), this.handle("beta", -3, 3));
    this.table = tableBehind(() => this.rows());
    const factors = [0.1, 0.5, 2, 10].map((factor) => button(`× ${factor}`, () => this.act({ do: "multiply", factor }), { ariaLabel: t("multiply_by", { factor }) }));
    const shares = [0.25, 0.5, 1].map((share) => button(percent(share), () => this.act({ do: "kill", share }), { ariaLabel: t("kill_share", { share: percent(share) }) }));
    const group = (key, all) => Object.assign(buttonRow(make("span", {}, t(key)), ...all), { role: "group", ariaLabel: t(key) });
    this.element.append(this.title,
      make("h4", {}, t("head_pre")), this.pre, this.text,
      make("h4", {}, t("gradient_axis")), this.gradient,
      make("div", { className: "map" }, make("h4", {}, t("units_map")), this.units, this.unitsText), this.normPart,
      group("multiply", factors), group("kill", shares), this.table);
  }

  layerIndex() {
    const { network } = this;
    return network ? Math.min(this.lab.layer, network.layers.length - 1) : 0;
  }

  act(action) {
    this.lab.act({ network: this.id, layer: this.layerIndex(), ...action });
  }

  /// A slider that sets gamma or beta of all units of the layer.
  handle(key, min, max) {
    const input = make("input", { type: "range", min, max, step: 0.05 });
    const output = make("output");
    const send = soon(this.lab, () => this.act({ do: "affine", gamma: null, beta: null, [key]: Number(input.value) }));
    input.addEventListener("input", send);
    this[key] = { input, output };
    return make("label", {}, make("span", {}, t(key)), " ", output, input);
  }

  frame(index) {
    const { network } = this;
    const at = this.layerIndex();
    const layer = network?.layers[at];
    if (!layer) return;
    this.title.replaceChildren(mark(index), ` ${layer.name}`);
    const view = this.view(index);
    drawLayer(this.pre, layer, view, view.theory?.[at]);
    drawLayerGradient(this.gradient, layer, view);
    drawUnits(this.units, network.units?.layer === at ? network.units : null);
    this.units.hidden = network.units?.layer !== at;
    this.unitsText.textContent = this.units.hidden ? t("units_none") : t("units_axes", { rows: network.units.rows, columns: network.units.columns, low: number(network.units.range[0]), high: number(network.units.range[1]) });
    this.text.textContent = t("layer_text", { std: number(layer.pre_std ?? layer.std), saturated: percent(layer.saturated), dead: percent(layer.dead), copies: percent(layer.copies) });
    this.pre.ariaLabel = `${t("head_pre")}: ${this.text.textContent}`;
    this.gradient.ariaLabel = `${t("gradient_axis")}: std ${number(layer.gradient_std)}`;
    this.units.ariaLabel = `${t("units_map")}: ${this.unitsText.textContent}`;
    this.normPart.hidden = !layer.norm;
    if (layer.norm) this.showNorm(layer.norm);
    refresh(this.table);
  }

  showNorm(norm) {
    drawNorm(this.norm, norm);
    this.norm.ariaLabel = t("norm_text", { input: number(norm.input_std), output: number(norm.output_std) });
    for (const key of ["gamma", "beta"]) {
      const [low, mean, high] = norm[key];
      const { input, output } = this[key];
      output.textContent = t("mean_range", { mean: number(mean, 3), low: number(low, 3), high: number(high, 3) });
      if (input !== document.activeElement) input.value = mean ?? 0;
      input.ariaValueText = output.textContent;
    }
  }

  rows() {
    const { network } = this;
    const layer = network?.layers[this.layerIndex()];
    const rows = [[t("number"), t("value")]];
    if (!layer) return rows;
    rows.push([t("pre_std"), number(layer.pre_std)], [t("std_short"), number(layer.std)], [t("mean"), number(layer.mean)], [t("gradient_std"), number(layer.gradient_std)]);
    if (!layer.norm) return rows;
    const { norm } = layer;
    rows.push([t("std_in"), number(norm.input_std)], [t("std_out"), number(norm.output_std)],
      [t("batch_mean"), number(norm.batch_mean)], [t("running_mean"), number(norm.running_mean)],
      [t("batch_var"), number(norm.batch_var)], [t("running_var"), number(norm.running_var)]);
    return rows;
  }
}

/// The heat map of one network.
class HeatPanel extends Panel {
  constructor(lab, id) {
    super(lab, id);
    this.canvas = picture(t("over_time"));
    this.table = tableBehind(() => this.rows());
    this.element.append(this.title, this.canvas, this.table);
    this.canvas.addEventListener("click", (event) => {
      const share = within((event.offsetX - 22) / (this.canvas.clientWidth - 24), [0, 1]);
      lab.chooseShare(share);
    });
  }

  frame(index) {
    this.title.replaceChildren(mark(index), ` ${configName(this.lab.config(this.id))}`);
    this.canvas.ariaLabel = t("heat_picture", { name: letter(index), shows: t(`heat_${this.lab.heat}`) });
    drawHeat(this.canvas, this.lab.history.points, this.id, this.lab.heat, this.lab.steps(), this.lab.momentStep());
    refresh(this.table);
  }

  /// At most ten moments, from the first to the last.
  rows() {
    const seen = this.lab.history.points.filter((it) => it.networks.has(this.id));
    const every = Math.max(Math.ceil(seen.length / 10), 1);
    const chosen = seen.filter((_, index) => index % every === 0);
    const layers = this.network?.layers ?? [];
    const write = { std: number, saturated: percent, update: (it) => number(10 ** it) }[this.lab.heat];
    return [
      [t("layer"), ...chosen.map((it) => t("steps", { n: it.step }))],
      ...layers.map(({ name }, layer) => [name, ...chosen.map((it) => write(it.networks.get(this.id)[this.lab.heat][layer]))]),
    ];
  }
}

/// A network's accuracy on the test set as the panel evaluates it.
class TestPanel extends Panel {
  constructor(lab, id) {
    super(lab, id);
    this.bar = make("div", { className: "fill" });
    this.value = make("strong");
    this.plain = note();
    this.needles = note();
    this.recalibrate = button(t("recalibrate"), () => lab.act({ do: "recalibrate", network: id }));
    this.element.append(this.title, this.value, make("div", { className: "meter", ariaHidden: "true" }, this.bar), this.plain, this.needles, this.recalibrate);
  }

  frame(index) {
    const { network } = this;
    if (!network) return;
    const tested = network.test?.accuracy ?? null;
    this.title.replaceChildren(mark(index), ` ${configName(this.lab.config(this.id))}`);
    this.value.textContent = t("test_right", { share: percent(tested) });
    this.bar.style.width = `${(tested ?? 0) * 100}%`;
    this.bar.className = `fill place-${index}`;
    this.plain.textContent = t("test_plain", { share: percent(network.accuracy) });
    const norm = network.layers[0]?.norm;
    this.recalibrate.hidden = !norm;
    this.needles.textContent = norm
      ? t("test_lag", { batch: number(norm.batch_var), running: number(norm.running_var) })
      : t("test_no_norm");
  }
}

/// Controls of the test panel.
class TestControls {
  constructor(lab) {
    this.lab = lab;
    this.batch = byId("test-batch");
    this.size = byId("test-size");
    this.send = soon(lab, () => lab.act({ do: "test", ...this.chosen() }));
    const classes = byId("classes");
    for (let digit = 0; digit < CLASSES; digit += 1) {
      classes.append(make("label", {}, make("input", { type: "checkbox", value: digit, checked: true, name: "class" }), String(digit)));
    }
    this.all = button("", () => this.choose(() => true), { id: "classes-all" });
    this.only = button("", () => this.choose((digit) => digit === 3), { id: "classes-3" });
    classes.append(this.all, this.only);
    this.boxes = [...classes.querySelectorAll("input")];
    this.batch.addEventListener("input", () => { this.words(); this.send(); });
    for (const input of [...this.boxes, ...document.querySelectorAll("[name=own]")]) input.addEventListener("change", this.send);
  }

  /// No class at all would be no test: then it is all of them.
  chosen() {
    const classes = this.boxes.filter((it) => it.checked).map((it) => Number(it.value));
    return {
      batch: 2 ** Number(this.batch.value),
      classes: classes.length > 0 ? classes : this.boxes.map((it) => Number(it.value)),
      own: document.querySelector("[name=own]:checked").value === "own",
    };
  }

  choose(which) {
    for (const it of this.boxes) it.checked = which(Number(it.value));
    this.send();
  }

  words() {
    this.all.textContent = t("classes_all");
    this.only.textContent = t("classes_3");
    this.size.textContent = t("images", { n: this.chosen().batch });
    this.batch.ariaValueText = this.size.textContent;
  }

  state(test) {
    if (!test || this.lab.waiting > 0) return;
    this.batch.value = Math.round(Math.log2(test.batch));
    for (const it of this.boxes) it.checked = test.classes.includes(Number(it.value));
    document.querySelector(`[name=own][value=${test.own ? "own" : "running"}]`).checked = true;
    this.words();
  }
}

/// A pad to draw a digit on. Every network reads it.
class Pad {
  constructor(lab) {
    this.lab = lab;
    this.canvas = byId("paper");
    this.answers = byId("answers");
    this.image = new Float32Array(PIXELS);
    this.strokes = [];
    this.ask = soon(lab, () => this.read());
    this.taken = -1;
    this.canvas.addEventListener("pointerdown", (event) => this.down(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    byId("clear").addEventListener("click", () => this.clear());
    byId("take").addEventListener("click", () => this.take());
  }

  at(event) {
    return [event.offsetX / this.canvas.clientWidth, event.offsetY / this.canvas.clientHeight];
  }

  down(event) {
    this.canvas.setPointerCapture?.(event.pointerId);
    if (this.taken >= 0) this.strokes = [];
    this.strokes.push([this.at(event)]);
    this.changed();
  }

  move(event) {
    if (event.buttons === 0 || this.strokes.length === 0 || this.taken >= 0) return;
    this.strokes.at(-1).push(this.at(event));
    this.changed();
  }

  changed() {
    this.taken = -1;
    this.image = centred(this.strokes);
    this.draw();
    this.ask();
  }

  clear() {
    this.taken = -1;
    this.strokes = [];
    this.image.fill(0);
    this.answered = null;
    this.answers.replaceChildren(note(t("pad_empty")));
    this.draw();
  }

  /// The keyboard's way: a test digit instead of a drawing.
  take() {
    const { images } = this.lab;
    if (!images) return;
    this.taken = (this.taken + 1) % images.length;
    this.image = Float32Array.from(images[this.taken].values, (it) => it / 255);
    this.draw();
    this.ask();
  }

  draw() {
    const context = fit(this.canvas);
    if (!context) return;
    box(context, 0, 0, context.wide, context.tall, "#000000");
    if (this.taken >= 0) {
      cells(context, 28, 28, [0, 0, context.wide, context.tall], (column, row) => new Array(3).fill(255 * this.image[28 * row + column]));
      return;
    }
    strokesOn(context, this.strokes, context.wide, 0.075);
  }

  /// The pad may be cleared before the answers come.
  async read() {
    const drawn = () => this.image.some((it) => it > 0);
    if (this.lab.recording || !drawn()) return;
    try {
      const { answers } = await this.lab.link.read(Array.from(this.image));
      if (!drawn()) return;
      this.answered = answers;
      this.show();
    } catch (error) {
      this.lab.failed(error.words ?? null);
    }
  }

  show() {
    if (!this.answered) return;
    const { ids } = this.lab.state;
    this.answers.dataset.count = ids.length;
    this.answers.replaceChildren(...this.answered.filter((it) => ids.includes(it.network)).map((answer) => {
      const index = ids.indexOf(answer.network);
      const canvas = picture(answer.probabilities.map((it, digit) => `${digit}: ${percent(it)}`).join(", "));
      const says = t("pad_says", { digit: answer.digit, share: percent(answer.probabilities[answer.digit]) });
      const article = make("article", {}, make("h3", {}, mark(index), ` ${says}`), canvas);
      requestAnimationFrame(() => drawProbabilities(canvas, answer, index));
      return article;
    }));
  }
}

function strokesOn(context, strokes, size, width) {
  context.strokeStyle = "#ffffff";
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = size * width;
  for (const stroke of strokes) {
    context.beginPath();
    stroke.forEach(([x, y], index) => (index === 0 ? context.moveTo(x * size, y * size) : context.lineTo(x * size, y * size)));
    if (stroke.length === 1) context.lineTo(stroke[0][0] * size + 0.1, stroke[0][1] * size);
    context.stroke();
  }
}

/// A drawing as MNIST has its digits: in a box of 20 pixels, its centre of mass in the middle of 28.
function centred(strokes) {
  const points = strokes.flat();
  if (points.length === 0) return new Float32Array(PIXELS);
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  const extent = Math.max(Math.max(...xs) - left, Math.max(...ys) - top, 0.15);
  const scale = 18 / 28 / extent;
  const moved = (right, down) => strokes.map((stroke) => stroke.map(([x, y]) => [(x - left) * scale + right, (y - top) * scale + down]));
  const corner = 5 / 28;
  const [right, down] = centreOfMass(rastered(moved(corner, corner))).map((it) => (13.5 - it) / 28);
  return rastered(moved(corner + right, corner + down));
}

/// 28 by 28 values from 0 to 1. Drawn four times as large first, so that edges are grey.
function rastered(strokes) {
  const large = make("canvas", { width: 112, height: 112 });
  strokesOn(large.getContext("2d"), strokes, 112, 2.6 / 28);
  const { data } = large.getContext("2d").getImageData(0, 0, 112, 112);
  const image = new Float32Array(PIXELS);
  for (let index = 0; index < 112 * 112; index += 1) {
    const [x, y] = [index % 112 >> 2, Math.floor(index / 112) >> 2];
    image[28 * y + x] += data[4 * index + 3] / 255 / 16;
  }
  return image.map((it) => Math.min(it, 1));
}

function centreOfMass(image) {
  let [mass, x, y] = [1e-9, 0, 0];
  image.forEach((value, index) => {
    mass += value;
    x += value * (index % 28);
    y += value * Math.floor(index / 28);
  });
  return [x / mass, y / mass];
}

/// Findings in words, as they come and go, each with a button that does what it advises.
class Findings {
  constructor(lab) {
    this.lab = lab;
    this.list = byId("finding-list");
    this.announcer = byId("announcer");
    this.shown = "";
    this.known = new Set();
    this.announced = 0;
  }

  frame(frame) {
    const now = frame.networks.flatMap((network) => network.findings.map((finding) => ({ network, finding })));
    this.announce(now);
    const key = JSON.stringify([language, this.lab.state.ids, now.map(({ network, finding }) => [network.id, finding.kind, finding.layer])]);
    if (key === this.shown) return this.renew(now);
    const focused = document.activeElement?.dataset?.finding;
    this.shown = key;
    this.list.replaceChildren(...(now.length > 0 ? now.map((it) => this.item(it)) : [note(t("no_findings"))]));
    if (focused) this.list.querySelector(`[data-finding="${focused}"]`)?.focus();
  }

  item({ network, finding }) {
    const index = this.lab.state.ids.indexOf(network.id);
    const item = make("div", { className: "finding" }, mark(index), make("p", {}, finding.text[language]));
    if (finding.advice && !this.lab.recording) {
      const take = button(finding.advice.label[language], () => this.lab.act({ do: "advise", network: network.id, finding: finding.kind }));
      take.dataset.finding = `${network.id}-${finding.kind}`;
      take.disabled = this.lab.state.ids.length >= MOST_NETWORKS;
      item.append(take);
    }
    return item;
  }

  /// The same findings with new numbers: only the words change, so that a button can be pressed.
  renew(now) {
    [...this.list.querySelectorAll(".finding p")].forEach((text, index) => {
      const words = now[index].finding.text[language];
      if (text.textContent !== words) text.textContent = words;
    });
  }

  /// Tells a screen reader of new findings, at most every three seconds.
  announce(now) {
    const keys = new Set(now.map(({ network, finding }) => `${network.id} ${finding.kind}`));
    const time = performance.now();
    if (time - this.announced < 3000) return;
    const fresh = now.filter(({ network, finding }) => !this.known.has(`${network.id} ${finding.kind}`));
    this.known = keys;
    if (fresh.length === 0) return;
    this.announced = time;
    this.announcer.textContent = fresh.map(({ network, finding }) => `${letter(this.lab.state.ids.indexOf(network.id))}: ${finding.text[language]}`).join(" ");
  }
}

/// Loss and accuracy of all networks.
function drawAllCurves(lab) {
  const series = (key) => lab.state.ids.map((id, at) => ({ at, points: lab.history.series(id, key) }));
  const steps = lab.steps();
  const moment = lab.momentStep();
  const losses = series("loss");
  const values = losses.flatMap(({ points }) => points.map(([, value]) => value)).filter((it) => it > 0);
  const axis = [
    10 ** within(Math.floor(log(Math.min(...values, 1))), [-4, -1]),
    10 ** within(Math.ceil(log(Math.max(...values, 5))), [1, 6]),
  ];
  const powers = Array.from({ length: log(axis[1] / axis[0]) + 1.5 }, (_, index) => axis[0] * 10 ** index);
  drawCurves(byId("loss"), losses, {
    ticks: powers.map((it) => [it, number(it, 1)]), axis, of: (it) => log(Math.max(it, axis[0])), guess: lab.state.own ? NaN : Math.log(CLASSES), steps, moment,
  });
  drawCurves(byId("accuracy"), series("accuracy"), {
    ticks: [0, 0.5, 1].map((it) => [it, percent(it)]), axis: [0, 1], guess: 1 / CLASSES, steps, moment,
  });
}

function curvesTable(lab) {
  const { points } = lab.history;
  const every = Math.max(Math.ceil(points.length / 12), 1);
  const chosen = points.filter((_, index) => index % every === 0 || index === points.length - 1);
  const heads = lab.state.ids.flatMap((_, at) => [`${letter(at)}: ${t("loss")}`, `${letter(at)}: ${t("accuracy")}`]);
  return [[t("step"), ...heads], ...chosen.map((point) => [
    String(point.step),
    ...lab.state.ids.flatMap((id) => [number(point.networks.get(id)?.loss, 3), percent(point.networks.get(id)?.accuracy)]),
  ])];
}
