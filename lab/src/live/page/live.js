// The page: takes states and frames, keeps what was seen, and redraws what is in view.

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/// Sections with one panel a network: the container, and what makes a panel.
const PANELS = {
  bench: ["networks", Column], layer: ["layer-networks", LayerPanel], heat: ["heat-networks", HeatPanel], test: ["test-networks", TestPanel],
};

class Lab {
  constructor({ race, lessons }) {
    Object.assign(this, { race: { ...USUAL, ...race }, lessons, state: null, frame: null, images: null, moment: null, layer: 0, heat: "std" });
    this.history = new History();
    this.waiting = 0;
    this.watchers = [];
    this.inView = new Set();
    this.dirty = false;
    this.drawn = 0;
    const token = document.querySelector("meta[name=token]").content;
    this.link = new Link(token, {
      connected: (is) => this.connected(is),
      state: (state) => this.takeState(state),
      frame: (frame) => this.takeFrame(frame),
      failed: (words) => this.failed(words),
    });
    byId("save").href = `/file?token=${encodeURIComponent(token)}`;
  }

  config(id) {
    return this.state.bench.networks[this.state.ids.indexOf(id)] ?? DEFAULTS;
  }

  /// The network as it is shown: now, or at the chosen moment.
  shown(id) {
    return this.shownFrame()?.networks.find((it) => it.id === id) ?? null;
  }

  shownFrame() {
    return this.moment === null ? this.frame : this.history.nearest(this.moment);
  }

  momentStep() {
    return this.moment === null ? null : this.history.nearest(this.moment)?.step ?? null;
  }

  /// The first and the last step of curves and heat maps.
  steps() {
    const first = this.history.points[0]?.step ?? 0;
    return [first, Math.max(this.history.points.at(-1)?.step ?? 0, first + 1)];
  }

  view(id, index) {
    const { activation } = this.config(id);
    const axis = activation ? SHAPES[activation].axis : valueAxis(this.shown(id));
    return { color: NETWORK_COLORS[index], activation, axis, gradientAxis: this.gradients ?? [-8, 0] };
  }

  /// Whether a frame has the networks of the present state.
  matches(frame) {
    return frame.networks.map((it) => it.id).join() === this.state.ids.join();
  }

  /// The newest frame once `is` holds for it and the state; with `most` milliseconds, at the latest then.
  whenFrame(is, most) {
    return new Promise((resolve) => {
      const watcher = { is, resolve };
      this.watchers.push(watcher);
      if (most !== undefined) setTimeout(() => this.leave(watcher), most);
    });
  }

  leave(watcher) {
    this.watchers = this.watchers.filter((it) => it !== watcher);
    watcher.resolve(this.frame);
  }

  takeState(state) {
    const first = this.state === null;
    if (state.digits) this.images = digitImages(state.digits);
    const moved = !first && encodeBench(state.bench) !== encodeBench(this.state.bench);
    this.state = state;
    if (moved) {
      // The first frame of a new bench may have come before its state.
      this.history.keepOnly(state.ids);
      this.gradients = null;
      if (!this.history.last) this.moment = null;
    }
    if (first) this.begin(state.own);
    this.showState();
    this.watch();
  }

  takeFrame(frame) {
    if (!this.state) return;
    if (frame.step < (this.frame?.step ?? 0)) {
      this.gradients = null;
      this.moment = null;
    }
    this.frame = frame;
    this.history.add(frame);
    this.gradients = gradientAxis(frame, this.gradients);
    this.mark();
    this.watch();
  }

  /// Wakes those who wait for what is so now.
  watch() {
    if (!this.frame) return;
    for (const watcher of this.watchers.filter((it) => it.is(this.frame))) this.leave(watcher);
  }

  connected(is) {
    if (!is && !this.offline) this.trouble(t("gone"), true);
    if (is && this.offline) this.trouble(null);
    this.offline = !is;
  }

  failed(words) {
    this.trouble(words?.[language] ?? t(this.offline ? "gone" : "not_done"), this.offline && !words);
  }

  /// Says what went wrong. It stays, or goes after some seconds.
  trouble(text, stays = false) {
    const element = byId("trouble");
    clearTimeout(this.troubleTimer);
    element.hidden = !text;
    element.textContent = text ?? "";
    if (text && !stays) this.troubleTimer = setTimeout(() => { element.hidden = true; }, 8000);
  }

  act(action) {
    if (this.recording || this.state?.own) return Promise.resolve();
    this.waiting += 1;
    return this.link.act(action).finally(() => {
      this.waiting -= 1;
      if (this.state) this.showState();
    });
  }

  /// An address with a bench sets it up. Without one, the race begins, unless something runs already. A network of the
  /// user's own runs by itself, and what the page cannot know of it is hidden.
  begin(own) {
    if (own) {
      document.body.classList.add("own");
      Object.assign(WORDS, OWN);
      return this.words();
    }
    if (this.recording) return;
    const named = decodeBench(location.hash);
    const bench = named ?? this.race;
    const same = encodeBench(bench) === encodeBench(this.state.bench);
    const untouched = this.state.step === 0 && !this.state.playing;
    if (!same && (named || untouched)) this.act({ do: "setup", bench, play: true });
    else if (untouched) this.act({ do: "play" });
  }

  start() {
    this.tour = new Tour(this);
    this.findings = new Findings(this);
    this.testControls = new TestControls(this);
    this.pad = new Pad(this);
    this.wire();
    const recording = byId("recording");
    chooseLanguage(preferredLanguage());
    this.words();
    if (recording) this.play(JSON.parse(recording.textContent));
    else this.link.listen();
    const tick = () => { requestAnimationFrame(tick); this.redraw(); };
    requestAnimationFrame(tick);
    setInterval(() => { if (this.state?.playing && this.inView.has("pad") && this.moment === null) this.pad.read(); }, 1000);
  }

  /// Plays a recording back: no server, nothing to change.
  play({ state, frames }) {
    this.recording = true;
    document.body.classList.add("recording");
    this.takeState({ ...state, playing: true });
    for (const frame of frames) this.takeFrame(frame);
    this.moment = this.history.moments[0]?.step ?? 0;
    setInterval(() => {
      if (!this.state.playing) return;
      const { moments } = this.history;
      const next = moments.findIndex((it) => it.step > this.moment);
      this.moment = moments[next < 0 ? 0 : next]?.step ?? 0;
      this.mark();
    }, calm.matches ? 1000 : 120);
  }

  wire() {
    const on = (id, event, does) => byId(id).addEventListener(event, does);
    on("play", "click", () => this.toggle());
    on("step", "click", () => this.act({ do: "step" }));
    on("restart", "click", () => this.act({ do: "restart" }));
    on("add", "click", () => this.act({ do: "add", config: { ...this.state.bench.networks.at(-1) } }));
    on("copy", "click", () => this.copyAddress());
    on("batch", "change", (event) => this.setBench("batch", event.target));
    on("seed", "change", (event) => this.setBench("seed", event.target));
    on("moment-slider", "input", (event) => this.chooseMoment(Number(event.target.value)));
    on("live", "click", () => { this.moment = null; this.mark(); });
    on("rewind", "click", () => this.rewind());
    on("layer-number", "input", (event) => this.chooseLayer(Math.round(Number(event.target.value)) || 0));
    on("heat-key", "change", (event) => { this.heat = event.target.value; this.heatWords(); this.mark(); });
    on("en", "click", () => this.speak("en"));
    on("ko", "click", () => this.speak("ko"));
    byId("curves-table").rows = () => curvesTable(this);
    on("curves-table", "toggle", (event) => refresh(event.target, true));
    for (const id of ["loss", "accuracy"]) on(id, "click", (event) => this.chooseOnCurve(event));
    addEventListener("resize", () => this.mark());
    addEventListener("hashchange", () => this.follow());
    addEventListener("keydown", (event) => this.key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.themed = false; this.mark(); });
    this.watchView();
  }

  /// Pictures that are not in view are not drawn.
  watchView() {
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        isIntersecting ? this.inView.add(target.id) : this.inView.delete(target.id);
        if (target.id === "layer") this.watchUnits();
      }
      this.mark();
    });
    for (const id of [...Object.keys(PANELS), "curves", "pad"]) observer.observe(byId(id));
  }

  /// Asks for the map of units only while it is in view.
  watchUnits() {
    const units = this.inView.has("layer") ? { network: null, layer: this.layer } : null;
    const wanted = JSON.stringify(units);
    if (!this.state || wanted === (this.watched ?? "null")) return;
    this.watched = wanted;
    this.act({ do: "watch", every: "auto", units });
  }

  toggle() {
    if (this.recording) this.takeState({ ...this.state, playing: !this.state.playing });
    else this.act({ do: this.state?.playing ? "pause" : "play" });
  }

  setBench(key, input) {
    const value = decodeNumber(key, input.value);
    if (value !== null) this.act({ do: "setup", bench: { ...this.state.bench, [key]: value }, play: this.state.playing });
  }

  rewind() {
    const step = this.momentStep();
    if (step === null) return;
    this.moment = null;
    this.act({ do: "rewind", step });
  }

  chooseLayer(layer) {
    const deepest = Math.max(...this.state.bench.networks.map((it) => it.depth ?? this.frame?.networks[0].layers.length ?? 1)) - 1;
    this.layer = within(layer, [0, deepest]);
    const input = byId("layer-number");
    if (input !== document.activeElement) input.value = this.layer;
    this.watchUnits();
    this.mark();
  }

  /// Chooses a moment to look at. The newest one is now.
  chooseMoment(step) {
    this.moment = step >= this.steps()[1] && !this.recording ? null : Math.max(Math.round(step), 0);
    if (this.recording && this.state.playing) this.toggle();
    this.mark();
  }

  chooseOnCurve({ offsetX, target }) {
    const share = within((offsetX - CURVE.left) / (target.clientWidth - CURVE.left - CURVE.right), [0, 1]);
    this.chooseShare(share);
  }

  /// Chooses a moment by its place between the first step and the last.
  chooseShare(share) {
    const [first, last] = this.steps();
    this.chooseMoment(first + share * (last - first));
  }

  scrollAll(scroller) {
    for (const other of document.querySelectorAll(".scroller")) {
      if (other !== scroller && Math.abs(other.scrollTop - scroller.scrollTop) > 1) other.scrollTop = scroller.scrollTop;
    }
  }

  /// The space bar plays and pauses where no control takes it.
  key(event) {
    if (event.target.closest("button, input, select, summary, a, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key !== " ") return;
    event.preventDefault();
    this.toggle();
  }

  async copyAddress() {
    const copy = byId("copy");
    try {
      await navigator.clipboard.writeText(location.href);
      copy.textContent = t("copied");
    } catch {
      this.trouble(t("copy_by_hand", { address: location.href }));
    }
    setTimeout(() => { copy.textContent = t("copy"); }, 2000);
  }

  /// Follows an address that was typed in.
  follow() {
    const bench = decodeBench(location.hash);
    if (bench && this.state && encodeBench(bench) !== encodeBench(this.state.bench)) this.act({ do: "setup", bench, play: true });
  }

  speak(chosen) {
    chooseLanguage(chosen);
    remember(chosen);
    this.words();
  }

  words() {
    applyWords();
    const select = byId("heat-key");
    select.replaceChildren(...Object.keys(HEATS).map((key) => make("option", { value: key, selected: key === this.heat }, t(`heat_${key}`))));
    this.heatWords();
    this.testControls.words();
    for (const [container] of Object.values(PANELS)) byId(container).replaceChildren();
    this.findings.shown = "";
    this.tour.words();
    if (this.state) this.showState();
    if (!this.pad.answered) this.pad.clear();
    else this.pad.show();
  }

  heatWords() {
    const [low, high] = HEATS[this.heat].ends;
    byId("heat-low").textContent = low;
    byId("heat-high").textContent = high;
  }

  showState() {
    const { state } = this;
    for (const [container, Panel] of Object.values(PANELS)) keepColumns(byId(container), this, (id) => new Panel(this, id).element);
    [...byId("networks").children].forEach((it, index) => it.panel.state(index));
    byId("play").textContent = state.playing ? t("pause") : t("play");
    byId("add").disabled = state.ids.length >= MOST_NETWORKS;
    for (const key of ["batch", "seed"]) {
      const input = byId(key);
      if (input !== document.activeElement) input.value = state.bench[key];
    }
    byId("device").textContent = t("runs_on", { device: state.device, data: state.data });
    this.testControls.state(state.test);
    if (!this.recording && !state.own && this.waiting === 0) history.replaceState(null, "", `#${encodeBench(state.bench)}`);
    this.chooseLayer(this.layer);
    this.mark();
  }

  mark() {
    this.dirty = true;
  }

  redraw() {
    const time = performance.now();
    if (!this.dirty || !this.state || !this.frame || (calm.matches && time - this.drawn < 500)) return;
    this.dirty = false;
    this.drawn = time;
    if (!this.themed) { readTheme(); this.themed = true; }
    this.numbers();
    this.tour.frame();
    for (const [section, [container]] of Object.entries(PANELS)) {
      if (this.inView.has(section)) [...byId(container).children].forEach((it, index) => it.panel.frame(index));
    }
    if (this.inView.has("curves")) this.curves();
    if (this.inView.has("heat")) drawScale(byId("heat-scale"));
    if (this.inView.has("pad")) this.pad.draw();
  }

  curves() {
    drawAllCurves(this);
    refresh(byId("curves-table"));
    this.findings.frame(this.shownFrame());
    const slider = byId("moment-slider");
    const step = this.momentStep();
    [slider.min, slider.max] = this.steps();
    slider.value = step ?? slider.max;
    const text = step === null ? t("now") : t("steps", { n: step });
    byId("moment-step").textContent = text;
    slider.ariaValueText = text;
    byId("live").disabled = step === null;
    byId("rewind").disabled = step === null;
    const kept = (this.state.kept ?? []).filter((it) => it <= (step ?? Infinity)).at(-1);
    byId("moment-note").textContent = step === null || this.recording ? "" : t("rewinds_to", { step: kept ?? 0 });
  }

  numbers() {
    const { state } = this;
    const frame = this.shownFrame();
    const step = frame?.step ?? 0;
    if (state.own) return byId("numbers").replaceChildren(`${t("steps", { n: step })} · ${t("rate", { n: number(frame.rate) })}`);
    const speed = this.recording ? "" : ` · ${t("speed", { images: Math.round(state.images_per_second ?? 0).toLocaleString(language) })}`;
    byId("numbers").textContent = t("step_epoch", { step, epoch: number(step / state.epoch, 2) }) + (state.playing ? speed : ` · ${t("paused")}`);
  }
}

function drawScale(canvas) {
  const context = fit(canvas);
  if (context) cells(context, 64, 1, [0, 0, context.wide, context.tall], (column) => mapped(column / 63));
}

const lab = new Lab(JSON.parse(byId("lesson-data").textContent));
lab.start();
