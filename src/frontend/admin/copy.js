// The copy buttons of the front page. Without this script they stay hidden, and the URLs can still be selected.
"use strict";

// Selects the text of an element, as a visitor does with the mouse.
function select(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

// Over plain http, browsers give no access to the clipboard except by execCommand.
async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    select(element);
    return document.execCommand("copy");
  }
}

document.querySelectorAll(".copyable").forEach((place) => {
  const [button, status] = [place.querySelector("button"), place.querySelector("[role=status]")];
  button.hidden = false;
  button.addEventListener("click", async () => {
    const isCopied = await copy(place.querySelector(".url"));
    document.querySelectorAll(".copyable [role=status]").forEach((other) => { other.textContent = ""; });
    status.textContent = isCopied ? "copied" : "selected: press Ctrl+C";
  });
});
