// One language at a time. Each text is a pair: Chinese, English. The page holds both, and style.css shows the one of
// `<html lang>`, so that a switch needs no reload.

import { read, write } from "./storage.js";

const KEY = "language";
const LANGUAGES = ["zh-CN", "en"];
const root = document.documentElement;
const title = document.querySelector("title");
const switches = [...document.querySelectorAll("[data-language]")];

export const getLanguage = () => (root.lang === "en" ? "en" : "zh-CN");

function findChosen() {
  const chosen = read(KEY);
  return LANGUAGES.includes(chosen) ? chosen : null;
}

// The script in the HTML has done the same, unless a policy of the shop's own server forbids it.
function findPreferred() {
  const known = /(?:^|,)(zh|en)\b/i.exec((navigator.languages ?? [navigator.language ?? ""]).join(","));
  return known?.[1].toLowerCase() === "en" ? "en" : "zh-CN";
}

function apply(language) {
  root.lang = language;
  showTitle();
  for (const button of switches) button.setAttribute("aria-pressed", button.dataset.language === language);
}

function showTitle() {
  document.title = getLanguage() === "en" ? title.dataset.en : title.dataset.zh;
}

export function setTitle([chinese, english]) {
  title.dataset.zh = `${chinese} · 美多商城`;
  title.dataset.en = `${english} · Meiduo Mall`;
  showTitle();
}

/** Show a text in an element. No text: the element is empty. */
export function showText(element, pair) {
  const isShown = [...element.children].map((child) => child.textContent).join("\n") === (pair ?? []).join("\n");
  if (isShown) return; // otherwise screen readers repeat it
  element.textContent = "";
  element.append(...makeText(pair));
}

/** Return the elements of a text, one for each language. */
export function makeText(pair) {
  return (pair ?? []).map((text, place) => {
    const span = document.createElement("span");
    span.lang = LANGUAGES[place];
    span.textContent = text;
    return span;
  });
}

/** Join texts, with a blank between the English ones. */
export const join = (...pairs) => [pairs.map((pair) => pair[0]).join(""), pairs.map((pair) => pair[1]).join(" ")];

/** Make a text of one that the API has sent in `language`. After a switch, `general` takes its place. */
export function fromAPI(message, language, general) {
  return language === "en" ? [general[0], message] : [message, general[1]];
}

apply(findChosen() ?? findPreferred());
for (const button of switches) {
  button.addEventListener("click", () => {
    apply(button.dataset.language);
    write({ [KEY]: button.dataset.language }); // if nothing may be stored, the choice ends with the page
  });
}
// After "back", and when another tab switches.
for (const event of ["pageshow", "storage"]) addEventListener(event, () => apply(findChosen() ?? getLanguage()));
