import { call, describeFailure, fetchLoginURL } from "./api.js";
import { showAvatar } from "./avatar.js";
import { describeFace } from "./faces.js";
import {
  areFilled, clearErrors, clearErrorsOnChange, setSending, setUpPasswordToggle, showErrors, whileSending,
} from "./form.js";
import { showText } from "./language.js";
import { leave, started } from "./page.js";
import { askForOneOf, getInputs, getTextsIfEmpty, readProof, showMobileHint } from "./proof.js";
import { setUpSMS } from "./sms.js";
import { forgetLogin, storedToken } from "./storage.js";
import { added, identity, removeHeading, removeName, texts } from "./texts.js";

const byId = (id) => document.getElementById(id);
const form = byId("remove-form");
let chosen = null; // the binding that the user removes

function show(name) {
  for (const section of document.querySelectorAll("[data-face]")) {
    section.hidden = section.dataset.face !== name;
  }
}

/** Show the user's QQs, with a message above them. */
async function showBindings(message) {
  const token = storedToken();
  if (!token) {
    show("guest");
    return;
  }
  const answer = await call("/oauth/qq/bindings/", { token });
  if (storedToken() !== token) return; // meanwhile the user has logged in or out, in another tab
  if (answer.ok && Array.isArray(answer.data)) {
    byId("bindings").replaceChildren(...answer.data.map(makeItem));
    showText(byId("list-text"), answer.data.length ? texts.bindings : texts.noBindings);
    showText(byId("list-message"), message);
    showText(byId("add-message"), null);
    show("list");
    if (message) byId("list-heading").focus();
  } else if (isSignedOut(answer)) {
    signOut();
  } else {
    showText(byId("failure-text"), describeFailure(answer));
    show("failure");
  }
}

const isSignedOut = ({ status, data }) => status === 401 || data.code === "not_authenticated";

function signOut() {
  forgetLogin();
  show("guest");
}

const nameOf = ({ nickname }) => (nickname ? [nickname, nickname] : texts.unnamed);

function makeItem(binding) {
  const item = byId("binding").content.cloneNode(true).firstElementChild;
  const find = (part) => item.querySelector(`[data-part=${part}]`);
  showAvatar(find("avatar"), find("initial"), binding);
  showText(find("name"), nameOf(binding));
  showText(find("added"), added(binding.create_time));
  showText(find("identity"), identity(binding));
  showText(find("remove-name"), removeName(nameOf(binding)));
  find("remove").addEventListener("click", () => askToRemove(binding));
  return item;
}

async function add() {
  const answer = await fetchLoginURL(null, { isLinking: true });
  if (!answer.ok) showText(byId("add-message"), describeFailure(answer));
  else if (await leave(answer.data.login_url, { keepsEntry: true })) {
    showText(byId("add-message"), describeFace("qq_not_opened"));
  }
}

async function askToRemove(binding) {
  chosen = binding;
  clearErrors(form);
  form.reset();
  showText(byId("remove-heading"), removeHeading(nameOf(binding)));
  show("remove");
  askForOneOf(["password", "sms_code"]);
  byId("remove-heading").focus();
  const { data } = await call("/user/", { token: storedToken() });
  showMobileHint(data.mobile);
}

async function remove() {
  const path = `/oauth/qq/bindings/${chosen.id}/`;
  const answer = await call(path, { method: "DELETE", body: readProof(), token: storedToken() });
  if (answer.ok || answer.status === 404) await showBindings(texts.removed); // 404: removed elsewhere
  else if (isSignedOut(answer)) signOut();
  else showErrors(form, answer);
}

function start() {
  const isAdded = new URLSearchParams(location.search).has("added");
  if (isAdded) history.replaceState(history.state, "", location.pathname); // not once more after a reload
  showBindings(isAdded ? texts.added : null);
}

byId("add").addEventListener("click", () => whileSending(byId("add"), add));
byId("cancel").addEventListener("click", () => showBindings());
byId("retry").addEventListener("click", () => {
  show("waiting");
  showBindings();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearErrors(form);
  if (areFilled(getInputs(), getTextsIfEmpty())) whileSending(byId("remove-submit"), remove);
});
byId("go-login").search = new URLSearchParams({ next: location.pathname });
setUpSMS(form);
setUpPasswordToggle(byId("toggle-password"), byId("password"));
clearErrorsOnChange(form);

// After "back" from QQ, with the button still disabled; and when another tab logs in or out.
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  setSending(byId("add"), false);
  showBindings();
});
addEventListener("storage", (event) => {
  if (event.key === "token") showBindings();
});
start();
started();
