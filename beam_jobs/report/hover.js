"use strict";
// Shows a mark's title next to the pointer immediately; without this script browsers show it after a delay.
(() => {
  const hint = document.createElement("div");
  hint.id = "hint";
  hint.hidden = true;
  document.body.append(hint);
  for (const title of document.querySelectorAll("svg title")) {
    const mark = title.parentNode;
    mark.dataset.hint = title.textContent;
    title.remove();
  }
  const place = (event) => {
    const room = 14;
    const left = Math.min(event.clientX + room, innerWidth - hint.offsetWidth - room);
    const below = event.clientY + room;
    const top = below + hint.offsetHeight > innerHeight ? event.clientY - hint.offsetHeight - room : below;
    hint.style.left = `${Math.max(left, 4)}px`;
    hint.style.top = `${Math.max(top, 4)}px`;
  };
  const show = (event) => {
    const text = event.target instanceof Element ? event.target.dataset.hint : undefined;
    hint.hidden = !text;
    if (text) {
      hint.textContent = text;
      place(event);
    }
  };
  // A finger that taps does not move.
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
})();
