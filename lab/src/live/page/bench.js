// The bench: one column for each network, with its controls and its layers.

/// Makes an element: `make("p", { className: "note" }, "text", child)`.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function button(text, does, properties = {}) {
  const element = make("button", { textContent: text, ...properties });
  element.addEventListener("click", does);
  return element;
}

const note = (text = "") => make("p", { className: "note" }, text);
const buttonRow = (...all) => make("div", { className: "buttons" }, ...all);
const picture = (ariaLabel, className = "") => make("canvas", { role: "img", ariaLabel, className });

/// Keeps one element per network in a container, in the bench's order. `build` makes a new one.
function keepColumns(container, lab, build) {
  const wanted = lab.state.ids.map(String);
  for (const column of [...container.children]) if (!wanted.includes(column.dataset.network)) column.remove();
  wanted.forEach((id, index) => {
    let column = [...container.children].find((it) => it.dataset.network === id);
    if (!column) {
      column = build(lab.state.ids[index]);
      column.dataset.network = id;
    }
    column.dataset.place = index;
    if (container.children[index] !== column) container.insertBefore(column, container.children[index] ?? null);
  });
  container.dataset.count = wanted.length;
}

/// The mark of a network: its letter on its colour.
function mark(index) {
  return make("span", { className: `mark place-${index}`, textContent: letter(index) });
}

function configName(config) {
  if (config.name) return config.name;
  const norm = config.norm === "none" ? "" : ` · ${t(`norm_${config.norm}_short`)}`;
  return `${initName(config)} · ${ACTIVATION_NAMES[config.activation]} · ${t("layers", { n: config.depth })}${norm}`;
}

/// In a word, how far a network is. All of it follows from numbers that were received.
function standing(network, lost) {
  if (lost) return t("is_lost");
  if (!Number.isFinite(network.accuracy)) return "";
  if (network.accuracy < 0.2) return t("is_guessing");
  return network.accuracy < 0.8 ? t("is_learning") : t("is_reading");
}

/// What shows one network.
class Panel {
  constructor(lab, id) {
    Object.assign(this, { lab, id, title: make("h3"), element: make("article") });
    this.element.panel = this;
  }

  get network() {
    return this.lab.shown(this.id);
  }

  /// How its pictures are drawn.
  view(index) {
    return { ...this.lab.view(this.id, index), theory: this.lab.history.theory.get(this.id), selected: this.lab.layer };
  }
}

class Column extends Panel {
  constructor(lab, id) {
    super(lab, id);
    this.name = make("span", { className: "name" });
    this.mark = make("span");
    this.score = make("strong");
    this.word = make("span", { className: "word" });
    this.lossText = make("span", { className: "loss" });
    this.canvas = picture("", "layers");
    this.digits = picture(t("what_digits"), "digits");
    this.table = tableBehind(() => layersTable(this.network));
    this.origin = note();
    this.lost = make("p", { className: "lost", role: "status", hidden: true });
    this.controls = new Controls(lab, id);
    this.element.append(
      make("h2", {}, this.mark, " ", this.name),
      make("p", { className: "score" }, this.score, " ", this.word, " ", this.lossText),
      this.controls.slider, this.lost, this.origin, this.controls.element,
      make("div", { className: "scroller", tabIndex: 0, role: "group" }, this.canvas),
      this.digits, this.table);
    this.canvas.addEventListener("click", (event) => this.choose(event));
    this.canvas.parentElement.addEventListener("scroll", () => lab.scrollAll(this.canvas.parentElement));
    // A part that is hidden keeps its row: so the layers of all networks stand beside each other.
    [...this.element.children].forEach((part, index) => { part.style.gridRow = index + 1; });
  }

  /// A click on a layer shows it large.
  choose(event) {
    const { network } = this;
    if (!network) return;
    const { head, row } = layerRows(this.canvas.clientWidth, network.layers.length);
    this.lab.chooseLayer(within(Math.floor((event.offsetY - head) / row), [0, network.layers.length - 1]));
  }

  /// What changes with the state: names and controls.
  state(index) {
    const { lab, id } = this;
    const config = lab.config(id);
    this.mark.replaceChildren(mark(index));
    this.name.textContent = configName(config);
    this.canvas.ariaLabel = t("layers_picture", { name: letter(index) });
    this.canvas.parentElement.ariaLabel = this.canvas.ariaLabel;
    const parent = lab.state.ids.indexOf(lab.state.parents?.[index] ?? null);
    const forked = lab.state.forked_at?.[index] ?? null;
    this.origin.hidden = forked === null;
    if (forked !== null) this.origin.textContent = t("forked_from", { name: letter(parent), step: forked });
    const lost = lab.state.lost?.[index];
    this.lost.hidden = !lost;
    if (lost) this.lost.textContent = lost.text[language];
    this.element.classList.toggle("is-lost", Boolean(lost));
    this.controls.state(config);
  }

  showDigits(answers, index) {
    const { images } = this.lab;
    drawDigits(this.digits, images, answers);
    const wrong = images.flatMap(({ label }, at) => (answers[at].answer === label ? [] : [`${label} → ${answers[at].answer}`]));
    this.digits.ariaLabel = t("digits_picture", { name: letter(index), right: images.length - wrong.length, wrong: wrong.join(", ") });
  }

  /// What changes with every frame.
  frame(index) {
    const { network } = this;
    if (!network) return;
    const lost = this.lab.state.lost?.[index];
    this.score.textContent = percent(network.accuracy);
    this.word.textContent = standing(network, lost);
    this.lossText.textContent = t("loss_is", { loss: network.loss === null ? t("not_finite") : number(network.loss, 3) });
    drawLayers(this.canvas, network, this.view(index));
    if (this.lab.images && network.digits) this.showDigits(network.digits, index);
    refresh(this.table);
  }
}

/// The controls of one network. A control in use is not overwritten by a state that comes in.
class Controls {
  constructor(lab, id) {
    this.lab = lab;
    this.id = id;
    this.fields = {};
    this.slider = this.stdSlider();
    const grid = make("div", { className: "grid" },
      this.select("init", [...INITS, "slider"], (it) => t(`init_${it}`)),
      this.select("activation", ACTIVATIONS, (it) => ACTIVATION_NAMES[it]),
      this.select("norm", NORMS, (it) => t(`norm_${it}`)),
      this.select("optimizer", OPTIMIZERS, (it) => OPTIMIZER_NAMES[it]),
      this.slide("depth", [1, 30], (it) => it, (it) => it),
      this.slide("lr", [-60, 10], (it) => Number((10 ** (it / 10)).toPrecision(2)), (it) => Math.round(10 * log(it))),
      this.numeric("width"));
    const actions = buttonRow(
      button(t("fork"), () => lab.act({ do: "fork", network: id, at: lab.momentStep(), change: null })),
      button(t("remove"), () => lab.act({ do: "remove", network: id }), { className: "remove" }));
    this.element = make("details", { className: "controls" }, make("summary", {}, t("change")), grid, actions);
  }

  set(change) {
    this.lab.act({ do: "set", network: this.id, change });
  }

  labelled(key, input, extra) {
    this.fields[key] = { ...extra, input };
    return make("label", {}, make("span", {}, t(key)), " ", ...(extra?.output ? [extra.output] : []), input);
  }

  select(key, options, name) {
    const input = make("select", { name: key }, ...options.map((it) => make("option", { value: it }, name(it))));
    input.addEventListener("change", () => this.set(this.chosen(key, input.value)));
    return this.labelled(key, input);
  }

  /// The initialisation is one of the named ones, or a std of the slider.
  chosen(key, value) {
    if (key !== "init") return { [key]: value };
    return value === "slider" ? { std: within(initialStd(this.lab.config(this.id)), LIMITS.std) } : { init: value, std: null };
  }

  /// A slider whose value is sent while it moves, but not more often than the server can follow.
  slide(key, [min, max], toValue, toPosition) {
    const input = make("input", { type: "range", name: key, min, max, step: 1 });
    const output = make("output");
    const send = soon(this.lab, () => this.set({ [key]: toValue(Number(input.value)) }));
    input.addEventListener("input", () => {
      output.textContent = number(toValue(Number(input.value)));
      send();
    });
    return this.labelled(key, input, { output, toPosition });
  }

  numeric(key) {
    const [min, max] = LIMITS[key];
    const input = make("input", { type: "number", name: key, min, max, step: 1 });
    input.addEventListener("change", () => {
      const value = decodeNumber(key, input.value);
      if (value !== null) this.set({ [key]: value });
    });
    return this.labelled(key, input);
  }

  /// The std of the initial weights, from 0.0001 to 10, with marks where the theory puts it.
  stdSlider() {
    const input = make("input", { type: "range", name: "std", min: -400, max: 100, step: 1 });
    const output = make("output");
    const toStd = () => Number((10 ** (Number(input.value) / 100)).toPrecision(3));
    const send = soon(this.lab, () => this.set({ std: toStd() }));
    input.addEventListener("input", () => {
      output.textContent = number(toStd(), 3);
      input.ariaValueText = output.textContent;
      send();
    });
    this.fields.std = { input, output };
    this.marks = make("div", { className: "marks", ariaHidden: "true" });
    return make("div", { className: "std" },
      make("label", {}, make("span", {}, t("std")), " ", output, input), this.marks);
  }

  state(config) {
    const { std, ...others } = this.fields;
    const now = initialStd(config);
    this.put(std, Math.round(100 * log(Math.max(now, 1e-4))), number(now, 3));
    std.input.ariaValueText = number(now, 3);
    this.showMarks(config.width);
    for (const [key, field] of Object.entries(others)) {
      this.put(field, field.toPosition ? field.toPosition(config[key]) : config[key], number(config[key]));
    }
    if (config.std !== null) this.put(others.init, "slider");
  }

  put({ input, output }, value, text) {
    const typing = input === document.activeElement && input.type === "number";
    if (typing || input.matches(":active") || this.lab.waiting > 0) return;
    input.value = value;
    if (output) output.textContent = text;
  }

  showMarks(width) {
    const marks = [["1/√n", Math.sqrt(1 / width)], ["√(2/n)", Math.sqrt(2 / width)]];
    this.marks.replaceChildren(...marks.map(([text, std], index) => {
      const element = make("span", { className: index === 0 ? "before" : "after" }, text);
      element.style.left = `${place(log(std), [-4, 1]) * 100}%`;
      return element;
    }));
  }
}

/// Runs `does` at once, but at most every 80 ms: calls in between run once, at the end. No state overwrites the controls until then.
function soon(lab, does) {
  let timer = null;
  let last = -Infinity;
  return () => {
    if (timer !== null) return;
    lab.waiting += 1;
    timer = setTimeout(() => {
      timer = null;
      last = performance.now();
      lab.waiting -= 1;
      does();
    }, Math.max(80 - (performance.now() - last), 0));
  };
}

/// A table behind a picture, filled only while it is open.
function tableBehind(rows) {
  const body = make("div");
  const details = make("details", { className: "table" }, make("summary", {}, t("as_table")), body);
  details.rows = rows;
  details.addEventListener("toggle", () => refresh(details, true));
  return details;
}

function refresh(details, now = false) {
  const time = performance.now();
  if (!details.open || (!now && time - (details.filled ?? 0) < 1000)) return;
  details.filled = time;
  const [head, ...rows] = details.rows();
  const cellsOf = (row, tag) => row.map((text, index) => make(index === 0 || tag === "th" ? "th" : "td", { scope: tag === "th" ? "col" : "row" }, text));
  details.querySelector("div").replaceChildren(make("table", {},
    make("thead", {}, make("tr", {}, ...cellsOf(head, "th"))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cellsOf(row, "td"))))));
}

function layersTable(network) {
  const head = ["layer", "std_short", "spread_inputs", "spread_units", "saturated", "dead", "copies", "gradient_std", "update"].map((it) => t(it));
  if (!network) return [head];
  return [head, ...network.layers.map((it) => [
    it.name, number(it.std), number(it.between_inputs), number(it.between_units), percent(it.saturated), percent(it.dead),
    percent(it.copies), number(it.gradient_std), it.update === null ? "–" : number(10 ** it.update),
  ])];
}
