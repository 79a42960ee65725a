"use strict";
// Saves rows of texts and numbers as a CSV file, through the browser.
function saveTable(name, rows) {
  const quote = cell => /[",\r\n]/.test(cell) ? '"' + cell.replaceAll('"', '""') + '"' : cell;
  const text = rows.map(row => row.map(quote).join(",") + "\n").join("");
  // A name that is no text has a lone surrogate for each of its bytes, as Python writes them.
  const parts = text.split(/([\udc80-\udcff])/u).map(part => /^[\udc80-\udcff]$/u.test(part) ? new Uint8Array([part.charCodeAt(0) - 0xdc00]) : part);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, {type: "text/csv"}));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
