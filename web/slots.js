import { makeText } from "./language.js";
import { agreements, footer } from "./shop.js";

function makeLine({ text, address }) {
  const line = document.createElement(address ? "a" : "span");
  if (address) Object.assign(line, { href: address, target: "_blank", rel: "noopener" });
  line.append(...makeText(text));
  return line;
}

/** Fill the places in the page that the shop writes itself, from shop.js. */
export function fillSlots() {
  for (const slot of document.querySelectorAll("[data-slot=agreements]")) {
    agreements.forEach((agreement, place) => {
      if (place) slot.append(...makeText(["", " and "]));
      slot.append(makeLine(agreement));
    });
  }
  for (const slot of document.querySelectorAll("[data-slot=footer]")) slot.append(...footer.map(makeLine));
}
