"use strict";
(() => {
  const root = document.documentElement, tip = document.getElementById("tip"), theme = document.getElementById("theme");
  root.classList.add("js");
  if (theme) {
    theme.hidden = false;
    theme.addEventListener("click", () => {
      const dark = root.classList.contains("dark") ||
        (!root.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
      root.classList.toggle("dark", !dark);
      root.classList.toggle("light", dark);
    });
  }
  // Titles of pictures become tips that do not wait.
  for (const title of document.querySelectorAll("svg title")) {
    title.parentNode.dataset.t = title.textContent;
    title.remove();
  }
  document.addEventListener("mousemove", (event) => {
    const found = event.target.closest && event.target.closest("[data-t]");
    tip.hidden = !found || !found.dataset.t;
    if (tip.hidden) return;
    tip.textContent = found.dataset.t;
    const { offsetWidth: width, offsetHeight: height } = tip;
    const left = event.clientX + 16 + width > innerWidth ? event.clientX - 12 - width : event.clientX + 16;
    const top = event.clientY + 16 + height > innerHeight ? event.clientY - 12 - height : event.clientY + 16;
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = Math.max(4, top) + "px";
  });
  // A click on the head of a column sorts by it.
  const value = (row, column) => {
    const cell = row.cells[column], held = cell.querySelector("[data-v]:last-of-type") || cell.querySelector("[data-v]");
    const text = held ? held.dataset.v : cell.textContent;
    return text !== "" && !isNaN(text) ? Number(text) : text;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.addEventListener("click", (event) => {
      const head = event.target.closest("th");
      if (!head) return;
      const column = head.cellIndex, body = table.tBodies[0];
      const sign = table.dataset.by === String(column) ? 1 : -1;
      table.dataset.by = sign < 0 ? column : "";
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        return sign * (typeof x === typeof y ? (x > y) - (x < y) : typeof x === "number" ? 1 : -1);
      });
      body.append(...rows);
    });
  }
})();
