// Shows the rows of a figure one by one. Without this script, and on paper, all of them are there.
for (const figure of document.querySelectorAll("figure[data-steps]")) {
  const rows = [...figure.querySelectorAll(".row")];
  const what = figure.dataset.steps;
  const controls = document.createElement("div");
  controls.className = "controls";
  controls.setAttribute("role", "group");
  controls.setAttribute("aria-label", what);

  const show = (chosen) => rows.forEach((row, index) => { row.hidden = index !== chosen; });
  if (rows.length <= 6) {
    const buttons = rows.map((row, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = row.dataset.label;
      button.addEventListener("click", () => choose(index));
      return button;
    });
    const choose = (chosen) => {
      show(chosen);
      buttons.forEach((button, index) => button.setAttribute("aria-pressed", index === chosen));
    };
    controls.append(...buttons);
    choose(0);
  } else {
    const slider = document.createElement("input");
    const value = document.createElement("output");
    slider.type = "range";
    slider.min = 0;
    slider.max = rows.length - 1;
    slider.value = 0;
    slider.setAttribute("aria-label", what);
    const choose = () => {
      const label = rows[slider.value].dataset.label;
      show(Number(slider.value));
      value.textContent = label;
      slider.setAttribute("aria-valuetext", label);
    };
    slider.addEventListener("input", choose);
    controls.append(slider, value);
    choose();
  }
  figure.querySelector(".row").before(controls);
}
