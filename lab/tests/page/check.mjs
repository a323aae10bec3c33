// Opens the page in headless Chromium and checks what a reader would notice:
// no error in the console, nothing fetched, nothing cut off at 1280 and 390 pixels, every control works,
// every figure has its text, and all steps are there on paper.
//
//   node lab/tests/page/check.mjs runs/experiments/report.html [folder for screenshots]
//
// Needs node 18 or newer and Chromium; CHROMIUM names the program if it is not called `chromium`.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { close, listeners, send } from "../browser.mjs";

const [page, shots] = process.argv.slice(2);
if (!page) {
  console.error("usage: node lab/tests/page/check.mjs PAGE.html [FOLDER FOR SCREENSHOTS]");
  process.exit(2);
}
if (!existsSync(page)) {
  console.error(`there is no ${page}; make it with: cargo run --release --example report`);
  process.exit(2);
}
if (shots) mkdirSync(shots, { recursive: true });

const problems = [];
const problem = (text) => problems.push(text);

async function open(width, height, media) {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const tab = (method, params) => send(method, params, sessionId);
  listeners.push(({ method, params, sessionId: from }) => {
    if (from !== sessionId) return;
    if (method === "Runtime.exceptionThrown") problem(`${width}: ${params.exceptionDetails.text}`);
    if (method === "Runtime.consoleAPICalled" && ["error", "warning"].includes(params.type)) {
      problem(`${width}: console: ${params.args.map((it) => it.value).join(" ")}`);
    }
    if (method === "Log.entryAdded") problem(`${width}: ${params.entry.text}`);
    if (method === "Network.requestWillBeSent" && !/^(file|data|about):/.test(params.request.url)) {
      problem(`${width}: asks the network for ${params.request.url}`);
    }
  });
  for (const domain of ["Runtime", "Log", "Network", "Page"]) await tab(`${domain}.enable`);
  await tab("Emulation.setDeviceMetricsOverride", {
    width, height, deviceScaleFactor: 1, mobile: width < 600,
  });
  if (media) {
    await tab("Emulation.setEmulatedMedia", media);
  }
  const loaded = new Promise((done) => listeners.push(({ method, sessionId: from }) => {
    if (from === sessionId && method === "Page.loadEventFired") done();
  }));
  await tab("Page.navigate", { url: pathToFileURL(resolve(page)).href });
  await loaded;
  const evaluate = async (check, given = "") => {
    const { result, exceptionDetails } = await tab("Runtime.evaluate", {
      expression: `(${check})(${given})`, returnByValue: true, awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception.description);
    return result.value;
  };
  return { tab, evaluate };
}

// What runs in the page returns a list of sentences, one per problem.
function layout(part = document) {
  const found = [];
  const wide = document.documentElement;
  if (wide.scrollWidth > wide.clientWidth) {
    found.push(`the page is ${wide.scrollWidth} pixels wide in a window of ${wide.clientWidth}`);
  }
  for (const element of part.querySelectorAll("*")) {
    if (element.closest("head")) continue;
    if (element.closest("thead") && wide.clientWidth < 600) continue;
    const box = element.getBoundingClientRect();
    if (box.width > 0 && (box.right > wide.clientWidth + 1 || box.left < -1)) {
      found.push(`${element.tagName} in ${element.closest("section, header")?.id} reaches outside`);
    }
  }
  // No text of a picture may leave the picture or lie on another.
  for (const picture of part.querySelectorAll(".panels svg")) {
    const frame = picture.getBoundingClientRect();
    if (frame.width === 0) continue;
    const boxes = [...picture.querySelectorAll("text")].map((text) => [text.textContent.trim(), text.getBoundingClientRect()]);
    const where = picture.closest("figure").id;
    for (const [i, [text, box]] of boxes.entries()) {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1 || box.top < frame.top - 1) {
        found.push(`${where}: "${text}" is cut off`);
      }
      for (const [other, its] of boxes.slice(i + 1)) {
        const across = Math.min(box.right, its.right) - Math.max(box.left, its.left);
        const down = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
        if (across > 1 && down > 3) found.push(`${where}: "${text}" lies on "${other}"`);
      }
    }
  }
  return found;
}

function texts() {
  const found = [];
  for (const figure of document.querySelectorAll("figure")) {
    const words = (id) => document.getElementById(id)?.textContent.trim();
    if (!words(figure.getAttribute("aria-labelledby"))) found.push(`${figure.id} has no title`);
    for (const panels of figure.querySelectorAll(".panels")) {
      if (!panels.getAttribute("aria-label")) found.push(`${figure.id} has a picture without a name`);
      if (!panels.getAttribute("aria-describedby")?.split(" ").every(words)) found.push(`${figure.id} has a picture without a text`);
    }
  }
  for (const link of document.querySelectorAll("a[href^='#']")) {
    if (!document.querySelector(link.getAttribute("href"))) found.push(`${link.href} leads nowhere`);
  }
  if (document.querySelectorAll("figure").length === 0) found.push("there is no figure");
  return found;
}

function controls(layout) {
  const found = [];
  const figures = document.querySelectorAll("figure[data-steps]");
  if (figures.length === 0) found.push("there is nothing to step through");
  for (const figure of figures) {
    const rows = [...figure.querySelectorAll(".row")];
    const shown = () => rows.filter((row) => row.getClientRects().length > 0).map((row) => rows.indexOf(row)).join();
    const buttons = [...figure.querySelectorAll(".controls button")];
    if (!figure.querySelector(".controls span")?.textContent.trim()) found.push(`${figure.id}: the buttons have no label`);
    for (const [index, button] of buttons.entries()) {
      button.focus();
      if (document.activeElement !== button) found.push(`${figure.id}: a button cannot be focused`);
      button.click();
      if (button.getAttribute("aria-pressed") !== "true") found.push(`${figure.id}: a button does not say that it is pressed`);
      if (shown() !== String(index)) found.push(`${figure.id}: step ${index} shows ${shown()}`);
      found.push(...layout(figure));
    }
  }
  return found;
}

function paper() {
  return [...document.querySelectorAll(".row")]
    .filter((row) => row.getClientRects().length === 0)
    .map((row) => `${row.closest("figure").id}: "${row.dataset.label}" is missing on paper`);
}

// By the keyboard alone: Tab goes to a control, the space bar presses it.
async function keyboard({ tab, evaluate }) {
  const key = async (key, code, text) => {
    await tab("Input.dispatchKeyEvent", { type: "keyDown", key, code, text, windowsVirtualKeyCode: key === "Tab" ? 9 : 32 });
    await tab("Input.dispatchKeyEvent", { type: "keyUp", key, code, windowsVirtualKeyCode: key === "Tab" ? 9 : 32 });
  };
  await evaluate(() => document.querySelector(".controls button").focus());
  await key("Tab", "Tab");
  await key(" ", "Space", " ");
  return evaluate(() => {
    const second = document.querySelectorAll(".controls button")[1];
    return second.getAttribute("aria-pressed") === "true" ? [] : ["Tab and the space bar do not press a button"];
  });
}

async function screenshot({ tab, evaluate }, name) {
  if (!shots) return;
  const height = await evaluate(() => document.documentElement.scrollHeight);
  const width = await evaluate(() => document.documentElement.clientWidth);
  for (let y = 0; y < height; y += 4000) {
    const { data } = await tab("Page.captureScreenshot", {
      captureBeyondViewport: true, clip: { x: 0, y, width, height: Math.min(height - y, 4000), scale: 1 },
    });
    writeFileSync(join(shots, `${name}-${y / 4000}.png`), Buffer.from(data, "base64"));
  }
}

async function check() {
  const dark = { features: [{ name: "prefers-color-scheme", value: "dark" }] };
  for (const [name, width, media] of [["wide", 1280], ["phone", 390], ["dark", 1280, dark], ["print", 1000, { media: "print" }]]) {
    const opened = await open(width, 900, media);
    const say = (found) => found.forEach((text) => problem(`${name}: ${text}`));
    say(await opened.evaluate(layout));
    if (name === "print") {
      say(await opened.evaluate(paper));
    } else {
      say(await opened.evaluate(texts));
      say(await opened.evaluate(controls, layout));
      say(await keyboard(opened));
    }
    await screenshot(opened, name);
  }
}

try {
  await check();
} catch (error) {
  problem(`the check itself failed: ${error.message}`);
}
await close();
problems.slice(0, 40).forEach((text) => console.error(text));
console.log(problems.length === 0 ? "the page is as it should be" : `${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);
