// The first thirty seconds, and the lessons: what the page says while the networks run.

/// What a chapter of the race says follows from the bench and from what was measured, not from clicks.
function chapter(lab) {
  const { networks } = lab.state.bench;
  const [left, right] = networks;
  const race = networks.length === 2 && right.init === "he" && right.std === null && right.activation === "relu" && left.activation === "relu";
  if (!race) return "free";
  const accuracy = lab.frame?.networks[0]?.accuracy ?? 0;
  if (left.norm !== "none") return "norm";
  if (left.depth >= 20) return accuracy > 0.5 ? "deep_saved" : "deep";
  return accuracy > 0.5 ? "saved" : "race";
}

class Tour {
  constructor(lab) {
    this.lab = lab;
    this.story = byId("story");
    this.list = byId("lesson-list");
    this.lesson = null;
    this.shown = "";
  }

  words() {
    this.shown = "";
    this.list.replaceChildren(...this.lab.lessons.map((lesson, index) => make("li", {},
      button(lesson.title[language], () => this.open(index)))));
    if (this.lesson) this.lesson.draw();
  }

  frame() {
    if (this.lesson) return this.lesson.progress();
    const now = this.lab.recording ? "recording" : this.lab.state.own ? "own" : chapter(this.lab);
    if (now === this.shown) return;
    this.shown = now;
    this.tell(now);
  }

  tell(now) {
    const { lab } = this;
    const set = (at, change) => lab.act({ do: "set", network: lab.state.ids[at], change });
    const deeper = () => [0, 1].forEach((at) => set(at, { depth: 30 }));
    const norm = [t("turn_on_norm"), () => set(0, { norm: "batch" })];
    const lesson = [t("first_lesson"), () => this.open(0)];
    const buttons = {
      race: [[t("set_he"), () => set(0, { std: Number(Math.sqrt(2 / lab.state.bench.networks[0].width).toPrecision(3)) })], [t("make_deep"), deeper]],
      saved: [[t("make_deep"), deeper]],
      deep: [norm],
      deep_saved: [norm],
      norm: [lesson, [t("race_again"), () => this.race()]],
      free: [[t("to_race"), () => this.race()], lesson],
    }[now] ?? [];
    document.body.dataset.story = now;
    this.story.replaceChildren(
      make("p", { className: "sentence" }, t(`story_${now}`)),
      make("p", {}, t(`invite_${now}`)),
      buttonRow(...buttons.map(([text, does], index) => button(text, does, { className: index === 0 ? "main" : "" }))));
  }

  race() {
    this.lesson = null;
    this.shown = "";
    this.lab.act({ do: "setup", bench: this.lab.race, play: true });
    this.frame();
  }

  open(index) {
    byId("lessons").open = false;
    this.lesson = new Lesson(this, index);
    this.lesson.draw();
    byId("tour").scrollIntoView({ block: "start" });
    this.story.querySelector("h2").focus();
  }

  close() {
    this.lesson = null;
    this.shown = "";
    this.frame();
  }
}

/// What is measured as a share, 0 to 1, and written in percent.
const SHARES = ["accuracy", "test", "saturated", "dead", "copies"];

/// One lesson on its way: a question, a prediction, the run, what was measured.
class Lesson {
  constructor(tour, index) {
    this.tour = tour;
    this.lab = tour.lab;
    this.index = index;
    this.data = tour.lab.lessons[index];
    this.bench = { ...USUAL, ...this.data.bench };
    this.prediction = null;
    this.moments = [];
    this.stage = "question";
  }

  draw() {
    document.body.dataset.story = "lesson";
    const { data, index } = this;
    const parts = {
      question: () => [this.choices(), buttonRow(this.runButton(), this.closeButton())],
      running: () => [this.choices(), this.bar(), buttonRow(this.closeButton())],
      answer: () => this.answer(),
    }[this.stage]();
    this.tour.story.replaceChildren(
      make("h2", { tabIndex: -1 }, t("lesson_title", { n: index + 1, of: this.lab.lessons.length, title: data.title[language] })),
      make("p", { className: "sentence" }, data.question[language]), ...parts);
  }

  choices() {
    const group = make("fieldset", { className: "choices" }, make("legend", {}, t("prediction")));
    this.data.choices.forEach((choice, index) => {
      const input = make("input", { type: "radio", name: "prediction", value: index, checked: this.prediction === index, disabled: this.stage !== "question" });
      input.addEventListener("change", () => {
        this.prediction = index;
        this.run.disabled = false;
      });
      group.append(make("label", {}, input, " ", choice.text[language]));
    });
    return group;
  }

  runButton() {
    this.run = button(t("run"), () => this.start(), { className: "main", id: "run", disabled: this.prediction === null });
    return this.run;
  }

  closeButton() {
    return button(t("close_lesson"), () => { this.stopped = true; this.tour.close(); });
  }

  bar() {
    this.meter = make("progress", { max: this.data.run.at(-1).until, value: 0, ariaLabel: t("progress") });
    this.meterText = note();
    return make("div", {}, this.meter, this.meterText);
  }

  progress() {
    if (this.stage !== "running" || !this.meter) return;
    const { step } = this.lab.frame;
    this.meter.value = Math.min(step, this.meter.max);
    this.meterText.textContent = t("running_step", { step, of: this.meter.max });
  }

  async start() {
    this.stage = "running";
    this.draw();
    const { lab, data, bench } = this;
    const wanted = encodeBench(bench);
    const isSetUp = lab.whenFrame((frame) => frame.step === 0 && encodeBench(lab.state.bench) === wanted && lab.matches(frame));
    lab.act({ do: "setup", bench, play: false });
    await isSetUp;
    for (const part of data.run) {
      if (this.stopped) return;
      this.moments.push(await this.moment(part));
    }
    if (this.stopped) return;
    this.stage = "answer";
    this.draw();
    this.tour.story.querySelector("h2").focus();
  }

  /// Does what a part of the run says and returns the frame of its end.
  async moment({ act, until }) {
    const { lab } = this;
    if (act) {
      const done = lab.whenFrame(() => act.do !== "test" || sameTest(lab.state.test, act));
      await lab.act(this.mapped(act));
      await done;
    }
    if (lab.frame.step < until) {
      const reached = lab.whenFrame((it) => it.step >= until || this.stopped);
      lab.act({ do: "play", until });
      await reached;
      if (!this.stopped && lab.state.playing) await lab.act({ do: "pause" });
    }
    // The accuracy of the last step may come a moment after it.
    return lab.whenFrame(() => false, until > 0 ? 700 : 0);
  }

  /// A lesson names networks by place, the server by id.
  mapped(act) {
    return "network" in act ? { ...act, network: this.lab.state.ids[act.network] } : act;
  }

  answer() {
    const { data, moments, prediction } = this;
    const found = borneOut(moments, data.choices);
    const right = found.includes(prediction);
    const usual = found.includes(data.answer);
    const verdict = right ? t("prediction_right") : t("prediction_wrong");
    const outcome = found.length > 0 ? found.map((it) => data.choices[it].text[language]).join(" / ") : t("none_holds");
    return [
      make("p", { className: right ? "verdict holds" : "verdict fails" }, `${verdict} ${t("outcome", { outcome })}`),
      this.measured(),
      make("p", { className: "why" }, usual ? data.why[language] : t("unusual", { usual: data.choices[data.answer].text[language] })),
      make("p", {}, make("strong", {}, t("try_next")), " ", data.next[language]),
      buttonRow(...this.nextButtons()),
    ];
  }

  /// What the run measured: the numbers on which the verdict stands.
  measured() {
    const rows = this.data.shows.flatMap((what) => what.networks.map((network) => {
      const value = measure(this.moments, { ...what, network });
      const text = SHARES.includes(what.measure) ? percent(value) : number(value, 3);
      const step = this.moments[what.moment ?? this.moments.length - 1]?.step;
      return make("li", {}, mark(network), ` ${what.text?.[language] ?? t(what.measure)}: `, make("strong", {}, text), ` ${t("at_step", { step })}`);
    }));
    return make("div", { className: "measured" }, make("p", {}, t("measured")), make("ul", {}, ...rows));
  }

  nextButtons() {
    const { index, tour, data, lab } = this;
    const buttons = [];
    if (data.try) {
      buttons.push(button(t("do_it"), () => {
        lab.act(this.mapped(data.try));
        lab.act({ do: "play" });
      }));
    }
    if (index + 1 < lab.lessons.length) buttons.push(button(t("next_lesson"), () => tour.open(index + 1), { className: "main" }));
    buttons.push(button(t("once_more"), () => tour.open(index)), this.closeButton());
    return buttons;
  }
}

function sameTest(test, act) {
  return test && test.batch === act.batch && test.own === act.own && test.classes.join() === act.classes.join();
}
