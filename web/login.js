import { fetchLoginURL, sendForm } from "./api.js";
import { describeFace } from "./faces.js";
import {
  areFilled, clearErrors, clearErrorsOnChange, setSending, setUpPasswordToggle, showErrors, showMessage, whileSending,
} from "./form.js";
import { go, leave, started } from "./page.js";
import { storeLogin } from "./storage.js";

const byId = (id) => document.getElementById(id);
const form = byId("login-form");
const next = new URLSearchParams(location.search).get("next") ?? "/";

async function logIn() {
  const body = { username: byId("username").value.trim(), password: byId("password").value };
  const answer = await sendForm("/authorizations/", body);
  if (!answer.ok) {
    showErrors(form, answer);
    return;
  }
  const problem = storeLogin(answer.data);
  if (problem) showMessage(describeFace(problem));
  else if (await go(next)) showMessage(describeFace("not_gone"));
}

async function goToQQ() {
  const answer = await fetchLoginURL(next);
  if (!answer.ok) {
    showErrors(form, answer);
    return;
  }
  if (await leave(answer.data.login_url, { keepsEntry: true })) showMessage(describeFace("qq_not_opened"));
}

byId("forgot").search = new URLSearchParams({ next });
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearErrors(form);
  if (areFilled([byId("username"), byId("password")])) whileSending(byId("login-submit"), logIn);
});
byId("qq-login").addEventListener("click", () => {
  clearErrors(form);
  whileSending(byId("qq-login"), goToQQ);
});
clearErrorsOnChange(form);
setUpPasswordToggle(byId("toggle-password"), byId("password"));

// After "back" from QQ, the browser may restore this page with its buttons still disabled.
addEventListener("pageshow", () => {
  setSending(byId("login-submit"), false);
  setSending(byId("qq-login"), false);
});
started();
