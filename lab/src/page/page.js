const root = document.documentElement;
const title = document.querySelector("title");
const texts = { en: title.textContent, ko: title.dataset.ko };

function chooseLanguage(chosen) {
  root.lang = chosen;
  document.title = texts[chosen];
  for (const element of document.querySelectorAll("[aria-label][data-ko]")) {
    element.dataset.en ??= element.ariaLabel;
    element.ariaLabel = element.dataset[chosen];
  }
  for (const it of LANGUAGES) document.getElementById(it).setAttribute("aria-pressed", it === chosen);
}

document.querySelector(".languages").hidden = false;
for (const it of LANGUAGES) {
  document.getElementById(it).addEventListener("click", () => { chooseLanguage(it); remember(it); });
}
chooseLanguage(preferredLanguage());

/// A button with a text in both languages: that of another element.
function button(like, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.innerHTML = like.innerHTML;
  made.addEventListener("click", action);
  return made;
}

// Shows the rows of a figure one at a time. Without this script, and on paper, all of them are shown.
for (const what of document.querySelectorAll(".steps")) {
  const figure = what.closest("figure");
  const rows = [...figure.querySelectorAll(".row")];
  const controls = document.createElement("div");
  what.id = `${figure.id}-steps`;
  controls.className = "controls";
  controls.setAttribute("role", "group");
  controls.setAttribute("aria-labelledby", what.id);
  const buttons = rows.map((row, index) => button(row.querySelector(".label"), () => choose(index)));
  const choose = (chosen) => {
    rows.forEach((row, index) => { row.hidden = index !== chosen; });
    buttons.forEach((it, index) => it.setAttribute("aria-pressed", index === chosen));
  };
  what.before(controls);
  controls.append(what, ...buttons);
  choose(0);
}

// On a phone, reasons take more than a screen.
if (matchMedia("(max-width: 40rem)").matches) {
  for (const it of document.querySelectorAll(".failed")) it.open = false;
}

// Hides the answer to a question, and the figure that shows it, until the reader has chosen. Without this script, and on
// paper, the answer is there at once.
for (const guess of document.querySelectorAll(".guess")) {
  const figure = guess.parentElement.querySelector("figure");
  const panels = figure.querySelectorAll(".row");
  const choices = [...guess.querySelectorAll(".choices li")];
  const answer = guess.querySelector(".answer");
  const reveal = (chosen) => {
    guess.classList.remove("asking");
    figure.classList.remove("veiled");
    for (const it of guess.querySelectorAll("button")) it.disabled = true;
    veil.remove();
    if (!chosen) return;
    chosen.classList.add("chosen");
    const said = guess.querySelector("right" in chosen.dataset ? ".right" : ".wrong").cloneNode(true);
    said.hidden = false;
    answer.prepend(said, " ");
  };
  for (const choice of choices) {
    const text = choice.querySelector(".choice");
    text.replaceWith(button(text, () => reveal(choice)));
  }
  const veil = button(guess.querySelector(".show"), () => reveal());
  veil.className = "veil";
  panels[0].before(veil);
  guess.classList.add("asking");
  figure.classList.add("veiled");
}
