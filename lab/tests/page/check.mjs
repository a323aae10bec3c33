// Opens the page in headless Chromium and checks what a reader would notice:
// no error in the console, nothing fetched, nothing cut off at 1280 and 390 pixels in either language, every control works,
// the language is kept, a question hides its answer, every figure has its text, the page is no longer than it may be,
// every text has enough contrast, and all steps are there on paper.
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

// The most that the page may take: pixels at a width of 1280 and of 390, and sheets of A4.
const HEIGHT = { 1280: 9000, 390: 20000 };
const SHEETS = 18;

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
    if (element.closest("head") || element.closest("details:not([open])")) continue;
    if (element.closest("thead") && wide.clientWidth < 600) continue;
    // Panels side by side scroll within their figure on a phone.
    const scroller = element.parentElement?.closest(".panels");
    if (scroller && getComputedStyle(scroller).overflowX === "auto") continue;
    const box = element.getBoundingClientRect();
    if (box.width > 0 && (box.right > wide.clientWidth + 1 || box.left < -1)) {
      found.push(`${element.tagName} in ${element.closest("section, header")?.id} reaches outside`);
    }
  }
  // No text of a picture may leave the picture or lie on another.
  for (const picture of part.querySelectorAll(".panels svg")) {
    const frame = picture.getBoundingClientRect();
    if (frame.width === 0 || picture.closest("details:not([open])")) continue;
    const shown = [...picture.querySelectorAll("text")].filter((text) => getComputedStyle(text).display !== "none");
    const boxes = shown.map((text) => [text.textContent.trim(), text.getBoundingClientRect()]);
    const where = picture.closest("figure").id;
    for (const [i, [text, box]] of boxes.entries()) {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1 || box.top < frame.top - 1) {
        found.push(`${where}: "${text}" is cut off`);
      }
      if (!matchMedia("print").matches && wide.clientWidth > 600 && box.height > 0 && parseFloat(getComputedStyle(shown[i]).fontSize) * frame.width / picture.viewBox.baseVal.width < 11) {
        found.push(`${where}: "${text}" is smaller than 11 pixels`);
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

// Everything that is folded away is laid out too, and the page as a reader finds it comes back.
function unfolded(layout) {
  const closed = [...document.querySelectorAll("details:not([open])")];
  for (const it of closed) it.open = true;
  const found = layout();
  for (const it of closed) it.open = false;
  return found;
}

function controls(layout) {
  const found = [];
  for (const it of document.querySelectorAll("details")) it.open = true;
  const figures = [...document.querySelectorAll("figure")].filter((it) => it.querySelector(".controls"));
  if (figures.length === 0) found.push("there is nothing to step through");
  for (const figure of figures) {
    const rows = [...figure.querySelectorAll(".row")];
    const shown = () => rows.filter((row) => row.getClientRects().length > 0).map((row) => rows.indexOf(row)).join();
    const buttons = [...figure.querySelectorAll(".controls button")];
    if (buttons.length !== rows.length) found.push(`${figure.id}: ${buttons.length} buttons for ${rows.length} rows`);
    if (!figure.querySelector(".controls .steps")?.textContent.trim()) found.push(`${figure.id}: the buttons have no label`);
    for (const [index, button] of buttons.entries()) {
      button.focus();
      if (document.activeElement !== button) found.push(`${figure.id}: a button cannot be focused`);
      button.click();
      if (button.getAttribute("aria-pressed") !== "true") found.push(`${figure.id}: a button does not say that it is pressed`);
      if (shown() !== String(index)) found.push(`${figure.id}: step ${index} shows ${shown()}`);
      found.push(...layout(figure));
    }
  }
  for (const it of document.querySelectorAll("details")) it.open = false;
  return found;
}

// A question hides its answer and its figure until one choice is made. The answer then says whether it was right.
function guesses() {
  const found = [];
  const guesses = [...document.querySelectorAll(".guess")];
  if (guesses.length < 3) found.push(`there are ${guesses.length} questions`);
  for (const [index, guess] of guesses.entries()) {
    const where = guess.closest("section").id;
    const answer = guess.querySelector(".answer");
    const panels = guess.parentElement.querySelector("figure .panels");
    const seen = () => [answer.getClientRects().length > 0, getComputedStyle(panels).visibility === "visible"].join();
    if (seen() !== "false,false") found.push(`${where}: the answer is shown before the choice`);
    const right = guess.querySelectorAll("[data-right]");
    if (right.length !== 1) found.push(`${where}: ${right.length} choices are right`);
    const height = document.documentElement.scrollHeight;
    const wanted = index % 2 === 0 ? "[data-right] button" : "li:not([data-right]) button";
    guess.querySelector(wanted).click();
    if (seen() !== "true,true") found.push(`${where}: the answer is not shown after the choice`);
    if (Math.abs(document.documentElement.scrollHeight - height) > (innerWidth < 600 ? 240 : 120)) found.push(`${where}: the page jumps at the answer`);
    if (!answer.querySelector(index % 2 === 0 ? ".right" : ".wrong")) found.push(`${where}: it does not say whether the choice was right`);
  }
  return found;
}

// What is shown is in the language of the page; names may be the same in both.
function language(chosen) {
  const found = [];
  const root = document.documentElement;
  if (root.lang !== chosen) found.push(`the page says lang=${root.lang} instead of ${chosen}`);
  if (document.getElementById(chosen).getAttribute("aria-pressed") !== "true") found.push(`the button of ${chosen} is not pressed`);
  const hangul = /[가-힣]/;
  if (hangul.test(document.title) !== (chosen === "ko")) found.push(`the title is "${document.title}" in ${chosen}`);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let korean = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const parent = node.parentElement;
    if (parent.closest("button[lang], script, code, cite") || parent.getClientRects().length === 0) continue;
    if (hangul.test(node.data)) korean += 1;
    if (hangul.test(node.data) && chosen === "en") found.push(`Korean in English: "${node.data.trim()}"`);
    // Three words of small letters are a sentence.
    if (chosen === "ko" && !hangul.test(node.data) && /[a-z]{2,} [a-z]{2,} [a-z]{2,}/.test(node.data)) found.push(`English in Korean: "${node.data.trim()}"`);
  }
  if (chosen === "ko" && korean < 200) found.push(`only ${korean} texts are Korean`);
  for (const element of document.querySelectorAll("[aria-label][data-ko]")) {
    if ((element.ariaLabel === element.dataset.ko) !== (chosen === "ko") && element.dataset.en !== element.dataset.ko) {
      found.push(`the name "${element.ariaLabel}" is not in ${chosen}`);
    }
  }
  return found;
}

// Text against what lies behind it: at least 4.5 to 1.
function contrast() {
  const rgb = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = rgb(color).map((it) => it / 255).map((it) => (it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((it) => it.nodeType === Node.TEXT_NODE && it.data.trim());
    if (!own || element.getClientRects().length === 0 || element.closest("style, script")) continue;
    let behind = element;
    while (behind.parentElement && (rgb(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
    const style = getComputedStyle(element);
    const color = element instanceof SVGElement ? style.fill : style.color;
    const [light, dark] = [color, getComputedStyle(behind).backgroundColor].map(luminance).sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) found.push(`"${element.textContent.trim().slice(0, 30)}" has a contrast of ${ratio.toFixed(2)}`);
  }
  return found;
}

function paper() {
  return [...document.querySelectorAll(".row")]
    .filter((row) => row.getClientRects().length === 0)
    .filter((row) => !row.closest("details"))
    .map((row) => `${row.closest("figure").id}: a row is missing on paper`);
}

// By the keyboard alone: Tab goes to a control, the space bar presses it.
async function keyboard({ tab, evaluate }) {
  const key = async (key, code, text) => {
    await tab("Input.dispatchKeyEvent", { type: "keyDown", key, code, text, windowsVirtualKeyCode: key === "Tab" ? 9 : 32 });
    await tab("Input.dispatchKeyEvent", { type: "keyUp", key, code, windowsVirtualKeyCode: key === "Tab" ? 9 : 32 });
  };
  await evaluate(() => {
    document.querySelector(".controls").closest("details").open = true;
    document.querySelector(".controls button").focus();
  });
  await key("Tab", "Tab");
  await key(" ", "Space", " ");
  const stepped = await evaluate(() => {
    const second = document.querySelectorAll(".controls button")[1];
    second.closest("details").open = false;
    return second.getAttribute("aria-pressed") === "true" ? [] : ["Tab and the space bar do not press a button"];
  });
  await evaluate(() => document.getElementById("en").focus());
  await key("Tab", "Tab");
  await key(" ", "Space", " ");
  return [...stepped, ...(await evaluate(language, '"ko"'))];
}

// The sheets of A4 that the page takes.
async function sheets({ tab }) {
  const { data } = await tab("Page.printToPDF", { paperWidth: 8.27, paperHeight: 11.69, printBackground: true, marginTop: 0.4, marginBottom: 0.4, marginLeft: 0.4, marginRight: 0.4 });
  const pdf = Buffer.from(data, "base64");
  if (shots) writeFileSync(join(shots, "print.pdf"), pdf);
  return pdf.toString("latin1").match(/\/Type\s*\/Page\b(?!s)/g).length;
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
  for (const [name, width, media] of [["wide", 1280], ["phone", 390], ["dark", 1280, dark], ["print", 720, { media: "print" }]]) {
    const opened = await open(width, 900, media);
    const say = (found) => found.forEach((text) => problem(`${name}: ${text}`));
    const choose = (chosen) => opened.evaluate((chosen) => document.getElementById(chosen).click(), JSON.stringify(chosen));
    if (name === "print") {
      await choose("en");
      say(await opened.evaluate(layout));
      say(await opened.evaluate(paper));
      const count = await sheets(opened);
      measured.push(`${count} sheets`);
      if (count > SHEETS) problem(`the page takes ${count} sheets, more than ${SHEETS}`);
      await screenshot(opened, name);
      continue;
    }
    for (const chosen of ["en", "ko"]) {
      await choose(chosen);
      say(await opened.evaluate(layout));
      say(await opened.evaluate(unfolded, layout));
      say(await opened.evaluate(language, JSON.stringify(chosen)));
      const height = await opened.evaluate(() => document.documentElement.scrollHeight);
      measured.push(`${height} pixels at ${width} (${name}, ${chosen})`);
      if (height > HEIGHT[width]) problem(`${name}: the page is ${height} pixels high in ${chosen}, more than ${HEIGHT[width]}`);
      if (width > 600) say(await opened.evaluate(contrast));
      await screenshot(opened, `${name}-${chosen}`);
    }
    say(await opened.evaluate(texts));
    say(await opened.evaluate(controls, layout));
    say(await keyboard(opened));
    // The choice of Korean outlasts the tab.
    const again = await open(width, 900, media);
    say(await again.evaluate(language, '"ko"'));
    say(await again.evaluate(guesses));
    await screenshot(again, `${name}-answered`);
  }
}

const measured = [];
try {
  await check();
} catch (error) {
  problem(`the check itself failed: ${error.message}`);
}
await close();
measured.forEach((text) => console.log(text));
problems.slice(0, 40).forEach((text) => console.error(text));
console.log(problems.length === 0 ? "the page is as it should be" : `${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);
