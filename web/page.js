// The page in its tab: its start, the values it keeps in its history entry, and its end.

import { fillSlots } from "./slots.js";

const TIME_TO_LEAVE = 8; // seconds until a page that should have been left offers another way on

/** Tell the script in the HTML that the page works from now on. */
export function started() {
  document.documentElement.classList.add("has-scripts");
  document.getElementById("stuck")?.remove();
  document.querySelector("main").hidden = false;
  document.querySelector(".languages").hidden = false;
  fillSlots();
}

// Where the shop answers QQ's redirect with the page, the script in the HTML gives the page its own address. A policy of
// the shop's own server may forbid that script.
const { path, query } = document.documentElement.dataset;
if (path && location.pathname !== path) history.replaceState({ query }, "", path);

// The history entry survives a reload and needs no storage, which may be full or forbidden. Other visits of the page,
// in this tab or another, have entries of their own.
let values = { ...history.state };

export const recall = (name) => values[name];

export function remember(changes) {
  replaceValues({ ...values, ...changes });
}

/** Keep only these values. */
export function replaceValues(newValues) {
  values = newValues;
  try {
    history.replaceState(values, "");
  } catch {
    // Safari refuses more than 100 changes in 30 seconds. The values then end with the page.
  }
}

/**
 * Return the query that this page was opened with. It is no longer in the address, so that it is not bookmarked, shared
 * or seen by others.
 */
export function takeQuery() {
  if (location.search) { // a policy of the shop's own server forbids the script in the HTML
    values = { query: location.search };
    history.replaceState(values, "", location.pathname);
  }
  return new URLSearchParams(values.query);
}

export const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/**
 * Go to an address. Returns true if the page is still there after some seconds: a dead connection, a download. Returns
 * false if it was left and "back" has restored it.
 */
export async function leave(address, { keepsEntry = false } = {}) {
  let isStillHere = true;
  addEventListener("pagehide", () => { isStillHere = false; }, { once: true });
  location[keepsEntry ? "assign" : "replace"](address);
  await sleep(TIME_TO_LEAVE);
  return isStillHere;
}

export const ACCOUNT_PAGE = new URL("account.html", location.href).pathname;
/** Where a QQ that is being added returns to. The callback page finds it in its address, and so knows what to do. */
export const AFTER_LINKING = `${ACCOUNT_PAGE}?added`;

/** Return `next` if it is a path of this shop and not this very page, otherwise the shop's front page. */
export function cleanPath(next) {
  try {
    const address = new URL(next, location.origin);
    if (next.startsWith("/") && address.origin === location.origin && address.pathname !== location.pathname) {
      return address.pathname + address.search + address.hash;
    }
  } catch {
    // `next` is missing or not a URL.
  }
  return "/";
}

/** Go to a path of this shop. Replaces the page, so that "back" does not return to a finished login. */
export function go(next) {
  // Prefix the origin: a path such as "//elsewhere.example" alone would lead to another host.
  return leave(location.origin + cleanPath(next));
}
