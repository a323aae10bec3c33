// Opens the live lab in headless Chromium and does what a person would do: watches the race, changes every control, forks,
// draws a digit, goes back in time, runs a lesson, in both languages, at 1280 and 390 pixels, light and dark.
// Fails on an error in the console, a request to another machine, a control that does nothing, or something cut off.
// A page that shows a program's own network (examples/live_own.rs) is looked at only: it has no controls.
//
//   node lab/tests/live/check.mjs http://127.0.0.1:PORT/ [folder for screenshots]
//
// Needs node 18 or newer and Chromium; CHROMIUM names the program if it is not called `chromium`.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { close, folder, listeners, send } from "../browser.mjs";

const [address, shots] = process.argv.slice(2);
if (!address) {
  console.error("usage: node lab/tests/live/check.mjs URL [FOLDER FOR SCREENSHOTS]");
  process.exit(2);
}
if (shots) mkdirSync(shots, { recursive: true });

const problems = [];
let part = "";
/// Whether the server is to refuse what is asked just now.
let refused = false;
const problem = (text) => { problems.push(`${part}: ${text}`); console.error(`  ${part}: ${text}`); };
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function open(url, { width = 1280, height = 800, dark = false, calm = false } = {}) {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const tab = (method, params) => send(method, params, sessionId);
  const origin = new URL(url).origin;
  listeners.push(({ method, params, sessionId: from }) => {
    if (from !== sessionId) return;
    if (method === "Runtime.exceptionThrown") problem((params.exceptionDetails.exception?.description ?? params.exceptionDetails.text).split("\n").slice(0, 3).join(" "));
    if (method === "Runtime.consoleAPICalled" && ["error", "warning"].includes(params.type)) {
      problem(`console: ${params.args.map((it) => it.value).join(" ")}`);
    }
    if (method === "Log.entryAdded" && !(refused && /400/.test(params.entry.text))) problem(`${params.entry.text} ${params.entry.url ?? ""}`);
    if (method === "Network.requestWillBeSent" && !/^(data|blob|about|file):/.test(params.request.url) && new URL(params.request.url).origin !== origin) {
      problem(`asks the network for ${params.request.url}`);
    }
  });
  for (const domain of ["Runtime", "Log", "Network", "Page"]) await tab(`${domain}.enable`);
  await tab("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
  await tab("Emulation.setEmulatedMedia", { features: [
    { name: "prefers-color-scheme", value: dark ? "dark" : "light" },
    { name: "prefers-reduced-motion", value: calm ? "reduce" : "no-preference" },
  ] });
  await tab("Page.navigate", { url });
  const evaluate = async (check, ...given) => {
    const { result, exceptionDetails } = await tab("Runtime.evaluate", {
      expression: `(${check})(${given.map((it) => JSON.stringify(it)).join(", ")})`, returnByValue: true, awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  /// Waits until a function of the page is true, and says so if it never is.
  const until = async (what, check, ...given) => {
    for (let tries = 0; tries < 300; tries += 1) {
      if (await evaluate(check, ...given).catch(() => false)) return true;
      await pause(100);
    }
    problem(`in 30 s: not ${what}`);
    return false;
  };
  const shot = async (name) => {
    if (!shots) return;
    const { data } = await tab("Page.captureScreenshot", {});
    writeFileSync(join(shots, `${name}.png`), Buffer.from(data, "base64"));
  };
  const close = () => send("Target.closeTarget", { targetId });
  return { tab, evaluate, until, shot, close };
}

// What follows runs in the page. It returns a list of sentences, one per problem.

function layout() {
  const found = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) found.push(`the page is ${page.scrollWidth} pixels wide in a window of ${page.clientWidth}`);
  for (const element of document.querySelectorAll("body *")) {
    const box = element.getBoundingClientRect();
    if (box.width === 0 || element.closest(".columns, #networks, .table, .unseen, option")) continue;
    if (box.right > page.clientWidth + 1 || box.left < -1) found.push(`${element.tagName}.${element.className} #${element.id} reaches outside`);
  }
  for (const element of document.querySelectorAll("button, summary, h1, h2, h3, label, legend, output")) {
    if (element.scrollWidth > element.clientWidth + 2 && element.clientWidth > 0 && getComputedStyle(element).overflow === "hidden") {
      found.push(`"${element.textContent}" is cut off`);
    }
  }
  return found;
}

function names() {
  const found = [];
  for (const element of document.querySelectorAll("button, a, summary")) {
    if (!(element.getAttribute("aria-label") ?? element.textContent).trim()) found.push(`${element.tagName} #${element.id} has no name`);
  }
  for (const element of document.querySelectorAll("input, select")) {
    const text = element.closest("label")?.textContent.trim() ?? element.getAttribute("aria-label");
    if (!text) found.push(`${element.tagName} ${element.name || element.id} has no label`);
  }
  for (const element of document.querySelectorAll("canvas[role=img], section, [role=group]")) {
    if (!element.getAttribute("aria-label") && element.id !== "findings") found.push(`${element.tagName} #${element.id} has no name`);
  }
  for (const element of document.querySelectorAll("[data-t]")) {
    if (!element.textContent.trim()) found.push(`no text for ${element.dataset.t}`);
  }
  return found;
}

/// Contrast of texts with their background, as WCAG defines it: 4.5 to 1.
function contrast() {
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((it) => it / 255).map((it) => (it <= 0.03928 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4))
    .reduce((sum, it, index) => sum + it * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let it = element; it; it = it.parentElement) {
      const color = parse(getComputedStyle(it).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const found = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((it) => it.nodeType === 3 && it.textContent.trim());
    if (!own || element.getBoundingClientRect().width === 0 || element.disabled || element.closest("script, .unseen, option")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.add(`contrast ${ratio.toFixed(1)} of ${element.tagName}.${element.className}`);
  }
  return [...found];
}

/// Whether a canvas shows anything.
function painted(selector) {
  return [...document.querySelectorAll(selector)].filter((canvas) => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    return !data.some((value, index) => index % 4 === 3 && value > 0);
  }).map((canvas) => `${canvas.id || canvas.className} of ${canvas.closest("section, aside")?.id} is empty`);
}

const say = (found) => found.forEach(problem);
const look = async ({ evaluate }) => {
  say(await evaluate(layout));
  say(await evaluate(names));
  say(await evaluate(contrast));
};

/// Sets a control as a person would: its value, then its event.
function setControl(selector, value, event) {
  const control = document.querySelector(selector);
  control.value = value;
  control.dispatchEvent(new Event(event, { bubbles: true }));
}

// What a person does.

async function race(page) {
  part = "race";
  const began = Date.now();
  await page.until("a first picture", () => lab.frame !== null && document.querySelector(".layers").height > 20);
  const first = Date.now() - began;
  // A server that was used before stays with what it had: then the race is called for.
  await page.evaluate(() => (lab.state.playing && encodeBench(lab.state.bench) === encodeBench(lab.race)) || lab.state.step === 0 || lab.tour.race());
  await page.until("moving", () => lab.frame.step > 3 && lab.state.playing);
  console.log(`first picture after ${first} ms, moving after ${Date.now() - began} ms`);
  await page.until("two networks", () => document.querySelectorAll("#networks article").length === 2);
  await page.until("painted layers", (painted) => eval(painted)(".layers").length === 0, `(${painted})`);
  say(await page.evaluate(() => (document.querySelector(".sentence").textContent.length > 10 ? [] : ["there is no sentence"])));
  await page.until("B climbing", () => lab.frame.networks[1].accuracy > 0.3);
  await page.shot("race");
  await look(page);
  await page.evaluate(() => document.querySelector("#story button").click());
  await page.until("A saved by the slider", () => Math.abs(lab.state.bench.networks[0].std - 0.141) < 1e-3);
  await page.until("A learning", () => lab.frame.networks[0].accuracy > 0.5);
  await page.until("the next chapter", () => /√\(2\/n\)/.test(document.querySelector(".sentence").textContent));
  await page.evaluate(() => document.querySelector("#story button").click());
  await page.until("30 layers", () => lab.state.bench.networks.every((it) => it.depth === 30) && lab.frame.networks[0].layers.length === 30);
  await pause(500);
  await page.shot("deep");
  await page.evaluate(() => document.querySelector("#story button").click());
  await page.until("batch norm", () => lab.state.bench.networks[0].norm === "batch" && lab.frame.networks[0].layers[0].norm !== null);
}

async function transport(page) {
  part = "transport";
  await page.evaluate(() => lab.act({ do: "setup", bench: lab.race, play: true }));
  await page.until("set up", () => lab.frame.step > 2 && lab.frame.networks[0].layers.length === 10);
  await page.evaluate(() => document.getElementById("play").click());
  await page.until("paused", () => !lab.state.playing);
  await pause(300);
  const step = await page.evaluate(() => lab.frame.step);
  await page.evaluate(() => document.getElementById("step").click());
  await page.until("one step on", (step) => lab.frame.step === step + 1, step);
  await page.evaluate(() => document.getElementById("restart").click());
  await page.until("at step 0", () => lab.frame.step === 0);
  say(await page.evaluate(() => (lab.frame.networks.every((it) => it.theory) ? [] : ["there is no theory at step 0"])));
  await pause(300);
  await page.shot("step-0");
  // By the keyboard: the button has the focus, the space bar presses it.
  await page.evaluate(() => document.getElementById("play").focus());
  for (const type of ["keyDown", "keyUp"]) {
    await page.tab("Input.dispatchKeyEvent", { type, key: " ", code: "Space", text: type === "keyDown" ? " " : undefined, windowsVirtualKeyCode: 32 });
  }
  await page.until("playing by the space bar", () => lab.state.playing);
  await page.evaluate((set) => eval(set)("#batch", 64, "change"), `(${setControl})`);
  await page.until("batches of 64", () => lab.state.bench.batch === 64);
  await page.evaluate((set) => eval(set)("#seed", 7, "change"), `(${setControl})`);
  await page.until("seed 7", () => lab.state.bench.seed === 7);
}

/// Changes every control of network A and waits for the server's state to say so.
async function controls(page) {
  part = "controls";
  await page.evaluate(() => { document.querySelector(".controls").open = true; });
  const cases = [
    ["init", "xavier", "change"], ["activation", "tanh", "change"], ["norm", "batch", "change"], ["norm", "burn", "change"],
    ["optimizer", "adamw", "change"], ["depth", 4, "input"], ["lr", -30, "input", 0.001], ["width", 50, "change"],
    ["std", -100, "input", 0.1],
  ];
  for (const [key, value, event, wanted = value] of cases) {
    await page.evaluate((set, selector, value, event) => eval(set)(selector, value, event), `(${setControl})`, `#networks article [name=${key}]`, value, event);
    await page.until(`${key} ${wanted}`, (key, wanted) => {
      const found = lab.state.bench.networks[0][key];
      return typeof wanted === "number" ? Math.abs(found - wanted) < 1e-4 : found === wanted;
    }, key, wanted);
    await page.until("a frame after it", () => lab.frame.networks.length === 2);
  }
  await page.until("a new address", () => location.hash.includes("std:0.1"));
  const address = await page.evaluate(() => decodeURIComponent(location.hash));
  for (const it of ["std:0.1", "activation:tanh", "norm:burn", "optimizer:adamw", "depth:4", "batch=64", "seed=7"]) {
    if (!address.includes(it)) problem(`the address lacks ${it}: ${address}`);
  }
  await look(page);
  await page.shot("controls");
  await page.evaluate(() => { document.querySelector(".controls").open = false; });
  await latency(page);
}

/// From a control to its effect on the screen.
async function latency(page) {
  const milliseconds = await page.evaluate(async () => {
    const slider = document.querySelector("#networks article [name=std]");
    const times = [];
    for (const value of [-120, -60, -90, -70, -110]) {
      const before = lab.history;
      const std = Number((10 ** (value / 100)).toPrecision(3));
      const start = performance.now();
      slider.value = value;
      slider.dispatchEvent(new Event("input", { bubbles: true }));
      await lab.whenFrame((frame) => Math.abs(lab.state.bench.networks[0].std - std) < 1e-4, 3000);
      await new Promise(requestAnimationFrame);
      times.push(performance.now() - start);
      await new Promise((done) => setTimeout(done, 200));
    }
    return times.sort((a, b) => a - b)[2];
  });
  console.log(`from the slider to the screen: ${milliseconds.toFixed(0)} ms (median of 5)`);
}

async function bench(page) {
  part = "bench";
  await page.evaluate(() => lab.act({ do: "setup", bench: lab.race, play: true }));
  await page.until("set up", () => lab.frame.step > 20 && lab.state.bench.batch === 128 && lab.frame.networks.length === 2);
  await page.evaluate(() => [...document.querySelectorAll("#networks article")][1].querySelector(".controls .buttons button").click());
  await page.until("a fork", () => lab.state.ids.length === 3 && lab.frame.networks.length === 3);
  await page.until("its origin in words", () => /B/.test(document.querySelectorAll("#networks article")[2].querySelector(".note").textContent));
  await page.until("a finding with a button", () => document.querySelector(".finding button:enabled"));
  await page.shot("findings");
  await page.evaluate(() => document.querySelector(".finding button:enabled").click());
  await page.until("the advice beside the patient", () => lab.state.ids.length === 4 && document.querySelectorAll("#networks article").length === 4);
  await pause(500);
  await page.shot("four");
  await look(page);
  // A fifth is refused, in words.
  refused = true;
  await page.evaluate(() => lab.act({ do: "add", config: DEFAULTS }));
  await page.until("a refusal in words", () => !document.getElementById("trouble").hidden && document.getElementById("trouble").textContent.length > 10);
  refused = false;
  for (const left of [3, 2]) {
    await page.evaluate(() => [...document.querySelectorAll("#networks article")].at(-1).querySelector(".remove").click());
    await page.until(`${left} networks`, (left) => lab.state.ids.length === left && document.querySelectorAll("#networks article").length === left, left);
  }
}

async function layer(page) {
  part = "layer";
  await page.evaluate(() => lab.act({ do: "set", network: lab.state.ids[1], change: { norm: "batch" } }));
  await page.evaluate(() => document.getElementById("layer").scrollIntoView());
  await page.evaluate((set) => eval(set)("#layer-number", 3, "input"), `(${setControl})`);
  await page.until("the map of units", () => lab.frame.networks.every((it) => it.units?.layer === 3));
  await page.until("batch norm's needles", () => [...document.querySelectorAll("#layer .norm")].filter((it) => !it.hidden).length === 1);
  await pause(300);
  say(await page.evaluate(painted, "#layer canvas:not([hidden])").then((found) => found.filter((it) => !/is empty/.test(it) || found.length > 2)));
  await page.shot("layer");
  const std = (at) => page.evaluate((at) => lab.frame.networks[0].layers[at].pre_std ?? lab.frame.networks[0].layers[at].std, at);
  const before = await std(3);
  await page.evaluate(() => document.querySelector("#layer article button[aria-label$='by 10']").click());
  await page.until("multiplied by 10", (before) => (lab.frame.networks[0].layers[3].pre_std ?? lab.frame.networks[0].layers[3].std) > 3 * before, before);
  await page.evaluate(() => [...document.querySelectorAll("#layer article")][1].querySelectorAll(".buttons")[1].querySelectorAll("button")[1].click());
  await page.evaluate(() => {
    const gamma = [...document.querySelectorAll("#layer article")][1].querySelector(".norm input");
    gamma.value = 0.5;
    gamma.dispatchEvent(new Event("input", { bubbles: true }));
  });
  await page.until("gamma pulled to 0.5", () => Math.abs(lab.frame.networks[1].layers[3].norm.gamma[1] - 0.5) < 0.1);
  await page.evaluate(() => { for (const it of document.querySelectorAll("details.table")) it.open = true; });
  await page.until("tables with rows", () => [...document.querySelectorAll("details.table")].every((it) => it.querySelectorAll("tr").length > 1));
  await look(page);
  await page.evaluate(() => { for (const it of document.querySelectorAll("details.table")) it.open = false; });
}

async function time(page) {
  part = "time";
  await page.evaluate(() => lab.act({ do: "setup", bench: lab.race, play: true }));
  await page.until("some steps", () => lab.matches(lab.frame) && lab.frame.step > 40 && lab.history.points.length > 8);
  for (const key of ["saturated", "update", "std"]) {
    await page.evaluate((set, key) => eval(set)("#heat-key", key, "change"), `(${setControl})`, key);
    await page.evaluate(() => document.getElementById("heat").scrollIntoView());
    await page.until(`a heat map of ${key}`, (painted) => eval(painted)("#heat canvas").length === 0, `(${painted})`);
  }
  await page.shot("heat");
  await page.evaluate(() => { const heat = document.querySelector("#heat article canvas"); heat.dispatchEvent(new MouseEvent("click", { clientX: heat.getBoundingClientRect().left + heat.clientWidth / 2, clientY: heat.getBoundingClientRect().top + 5, bubbles: true })); });
  await page.evaluate(() => document.getElementById("moment").scrollIntoView({ block: "center" }));
  await page.until("an earlier moment", () => lab.momentStep() !== null && lab.momentStep() < lab.steps()[1] && !document.getElementById("live").disabled);
  await pause(200);
  await page.shot("moment");
  await page.evaluate(() => document.getElementById("rewind").click());
  await page.until("rewound", () => lab.moment === null && document.getElementById("live").disabled);
}

async function pad(page) {
  part = "pad";
  await page.evaluate(() => document.getElementById("pad").scrollIntoView());
  await pause(300);
  const box = await page.evaluate(() => { const { left, top, width, height } = document.getElementById("paper").getBoundingClientRect(); return { left, top, width, height }; });
  const mouse = (type, [x, y]) => page.tab("Input.dispatchMouseEvent", { type, x: box.left + x * box.width, y: box.top + y * box.height, button: "left", buttons: type === "mouseReleased" ? 0 : 1, clickCount: 1 });
  await mouse("mousePressed", [0.3, 0.2]);
  for (let at = 0; at <= 10; at += 1) await mouse("mouseMoved", [0.3 + 0.04 * at, 0.2]);
  for (let at = 0; at <= 10; at += 1) await mouse("mouseMoved", [0.7 - 0.02 * at, 0.2 + 0.06 * at]);
  await mouse("mouseReleased", [0.5, 0.8]);
  await page.until("answers of every network", () => document.querySelectorAll("#answers article").length === lab.state.ids.length && /\d/.test(document.querySelector("#answers h3").textContent));
  await pause(200);
  await page.shot("pad");
  await page.evaluate(() => document.getElementById("take").click());
  await page.until("the answer to a test digit", () => lab.pad.answered !== null && lab.pad.taken === 0);
  await page.evaluate(() => document.getElementById("clear").click());
  await page.until("an empty pad", () => document.querySelectorAll("#answers article").length === 0);
}

async function testTime(page) {
  part = "test time";
  await page.evaluate(() => lab.act({ do: "set", network: lab.state.ids[1], change: { norm: "batch" } }));
  await page.evaluate(() => document.getElementById("test").scrollIntoView());
  await page.evaluate(() => document.getElementById("classes-3").click());
  await page.until("only threes", () => lab.state.test.classes.join() === "3");
  await page.evaluate(() => document.querySelector("[value=own]").click());
  await page.until("own statistics", () => lab.state.test.own === true);
  await page.evaluate((set) => eval(set)("#test-batch", 5, "input"), `(${setControl})`);
  await page.until("batches of 32", () => lab.state.test.batch === 32);
  await page.until("accuracies", () => lab.frame.networks.every((it) => it.test !== null) && /%/.test(document.querySelector("#test-networks strong").textContent));
  await page.until("a button to recalibrate", () => document.querySelectorAll("#test-networks button:not([hidden])").length === 1);
  await page.evaluate(() => document.querySelector("#test-networks button:not([hidden])").click());
  await pause(600);
  await page.shot("test-time");
  await page.evaluate(() => { document.getElementById("classes-all").click(); document.querySelector("[value=running]").click(); });
  await page.until("running statistics again", () => lab.state.test.own === false && lab.state.test.classes.length === 10);
}

async function lesson(page, language, index) {
  part = `lesson ${index + 1} in ${language}`;
  await page.evaluate((language) => document.getElementById(language).click(), language);
  await page.evaluate((index) => document.querySelectorAll("#lesson-list button")[index].click(), index);
  await page.until("a question", () => document.querySelectorAll(".choices input").length >= 3 && document.getElementById("run").disabled);
  await page.shot(`lesson-${language}-question`);
  await look(page);
  await page.evaluate(() => { document.querySelector(".choices input").click(); document.getElementById("run").click(); });
  await page.until("running", () => document.querySelector("progress"));
  let done = false;
  for (let tries = 0; tries < 6 && !done; tries += 1) {
    done = await page.evaluate(() => new Promise((resolve) => {
      const stop = setTimeout(() => resolve(false), 20000);
      const look = setInterval(() => { if (document.querySelector(".measured li")) { clearInterval(look); clearTimeout(stop); resolve(true); } }, 100);
    }));
  }
  if (!done) problem("no answer in 120 s");
  say(await page.evaluate(() => (/–/.test(document.querySelector(".measured").textContent) ? ["a number was not measured"] : [])));
  const usual = await page.evaluate(() => document.querySelector(".why").textContent === lab.lessons[lab.tour.lesson.index].why[document.documentElement.lang]);
  if (!usual) problem("the run did not show what the lesson claims");
  await page.evaluate(() => scrollTo(0, 0));
  await pause(300);
  await page.shot(`lesson-${language}-answer`);
  await look(page);
  await page.evaluate(() => [...document.querySelectorAll("#story .buttons button")].at(-1).click());
}

async function languages(page) {
  part = "languages";
  for (const [language, other] of [["ko", "en"], ["en", "ko"]]) {
    await page.evaluate((language) => document.getElementById(language).click(), language);
    await pause(400);
    const found = await page.evaluate(() => ({ lang: document.documentElement.lang, title: document.title, text: document.body.innerText }));
    if (found.lang !== language) problem(`the page says lang=${found.lang}`);
    if (/\{\w+\}|undefined|\[object/.test(found.text)) problem(`a text has a hole: ${found.text.match(/.{0,20}(\{\w+\}|undefined|\[object).{0,20}/)[0]}`);
    if ((language === "ko") !== /실험실/.test(found.title)) problem(`the title is "${found.title}" in ${language}, after ${other}`);
  }
}

async function narrow() {
  part = "390 pixels";
  const page = await open(address, { width: 390, height: 844, dark: true, calm: true });
  await page.until("a first picture", () => lab.frame !== null);
  await page.evaluate(() => lab.act({ do: "setup", bench: { ...lab.race, networks: [0, 1, 2, 3].map((at) => ({ ...lab.race.networks[1], depth: 30, norm: at < 2 ? "none" : "batch" })) }, play: true }));
  await page.until("four deep networks", () => lab.frame.networks.length === 4 && lab.frame.networks[0].layers.length === 30 && lab.frame.step > 1);
  await pause(900);
  for (const language of ["en", "ko"]) {
    await page.evaluate((language) => { document.getElementById(language).click(); }, language);
    for (const [name, id] of [["top", "tour"], ["bench", "networks"], ["curves", "curves"], ["layer", "layer"], ["heat", "heat"], ["pad", "pad"], ["test", "test"]]) {
      await page.evaluate((id) => document.getElementById(id).scrollIntoView(), id);
      await pause(700);
      await page.shot(`narrow-${language}-${name}`);
    }
    await look(page);
  }
  await page.close();
}

/// An address opens the same bench again.
async function addressed() {
  part = "address";
  const page = await open(`${address}#batch=32&seed=9&net=init:zeros,depth:3,activation:sigmoid&net=std:0.2,depth:3,lr:0.05`);
  await page.until("the bench of the address", () => lab.state.bench.batch === 32 && lab.state.bench.networks[0].init === "zeros" && Math.abs(lab.state.bench.networks[1].std - 0.2) < 1e-6);
  await page.close();
}

async function recording(page) {
  part = "recording";
  await page.evaluate(() => lab.act({ do: "setup", bench: lab.race, play: true }));
  await page.until("some steps", () => encodeBench(lab.state.bench) === encodeBench(lab.race) && lab.matches(lab.frame) && lab.frame.step > 20 && lab.frame.step === lab.history.last.step);
  await playback(page, 2);
}

/// The saved file plays without a server, and asks nobody for anything.
async function playback(page, networks) {
  const html = await page.evaluate(async () => (await fetch(document.getElementById("save").href)).text());
  const file = join(folder, "live-lab.html");
  writeFileSync(file, html);
  const saved = await open(pathToFileURL(file).href);
  await saved.until("a picture", (networks) => lab.frame !== null && document.querySelectorAll("#networks article").length === networks, networks);
  const first = await saved.evaluate(() => lab.moment);
  await saved.until("playing", (first) => lab.moment !== first, first);
  await pause(500);
  await saved.shot("recording");
  await look(saved);
  await saved.close();
}

/// The page of a program's own network: what it knows is drawn, and nothing else is there.
async function own(page) {
  part = "own network";
  await page.until("pictures", (painted) => lab.history.points.length > 20 && eval(painted)(".layers, #loss").length === 0, `(${painted})`);
  const visible = () => ["#play", "#step", "#add", "#pad", "#test", "#accuracy", ".controls", ".std", ".digits", ".map", "#lessons", "#layer .buttons", "#device"]
    .filter((it) => document.querySelector(it).getBoundingClientRect().width > 0).map((it) => `${it} is there`);
  const sections = [["top", "tour"], ["layer", "layer"], ["heat", "heat"]];
  for (const language of ["en", "ko"]) {
    await page.evaluate((language) => document.getElementById(language).click(), language);
    for (const [name, id] of sections) {
      await page.evaluate((id) => document.getElementById(id).scrollIntoView(), id);
      await pause(500);
      await page.shot(`own-${language}-${name}`);
    }
    say(await page.evaluate(visible));
    say(await page.evaluate(() => (/\{\w+\}|undefined|NaN|\[object/.test(document.body.innerText) ? ["a text has a hole"] : [])));
    await look(page);
  }
  say(await page.evaluate(painted, "#layer canvas:not(.map canvas, .norm canvas), #heat canvas"));
  await page.evaluate(() => { for (const it of document.querySelectorAll("details.table")) it.open = true; });
  await page.until("tables with the names of the points", () => [...document.querySelectorAll("#bench .table, #heat .table")].every((it) => lab.frame.networks[0].layers.every(({ name }) => it.textContent.includes(name))));
  await page.evaluate(() => { for (const it of document.querySelectorAll("details.table")) it.open = false; });
  await page.evaluate(() => lab.chooseLayer(1));
  await page.until("the second point, large", () => document.querySelector("#layer h3").textContent.includes(lab.frame.networks[0].layers[1].name));
  const [first, last] = await page.evaluate(() => [lab.history.points[0], lab.history.points.at(-1)].map((it) => [...it.networks.values()][0].loss));
  if (!(last < first)) problem(`the loss went from ${first} to ${last}`);
  await playback(page, 1);
  await page.close();
  part = "own network, 390 pixels";
  const narrow = await open(address, { width: 390, height: 844, dark: true, calm: true });
  await narrow.until("a picture", () => lab.frame !== null);
  await pause(900);
  await narrow.shot("own-narrow");
  await look(narrow);
  await narrow.close();
}

async function check() {
  const page = await open(address);
  await page.until("a state", () => lab.state !== null);
  if (await page.evaluate(() => lab.state.own === true)) return own(page);
  await race(page);
  await transport(page);
  await controls(page);
  await bench(page);
  await layer(page);
  await time(page);
  await pad(page);
  await testTime(page);
  await languages(page);
  await lesson(page, "en", 4);
  await lesson(page, "ko", 4);
  await recording(page);
  await page.close();
  await narrow();
  await addressed();
}

try {
  await check();
} catch (error) {
  problem(`the check itself failed: ${error.stack}`);
}
await close();
console.log(problems.length === 0 ? "the live lab is as it should be" : `${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);
