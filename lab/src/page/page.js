// Shows the rows of a figure one at a time. Without this script, and on paper, all of them are shown.
for (const figure of document.querySelectorAll("figure[data-steps]")) {
  const rows = [...figure.querySelectorAll(".row")];
  const controls = document.createElement("div");
  const what = document.createElement("span");
  what.id = `${figure.id}-steps`;
  what.textContent = `${figure.dataset.steps}:`;
  controls.className = "controls";
  controls.setAttribute("role", "group");
  controls.setAttribute("aria-labelledby", what.id);
  const buttons = rows.map((row, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = row.dataset.label;
    button.addEventListener("click", () => choose(index));
    return button;
  });
  const choose = (chosen) => {
    rows.forEach((row, index) => { row.hidden = index !== chosen; });
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", index === chosen));
  };
  controls.append(what, ...buttons);
  choose(0);
  figure.querySelector(".row").before(controls);
}
