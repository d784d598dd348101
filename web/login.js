import { call, fetchLoginURL, sendForm } from "./api.js";
import { describeFace } from "./faces.js";
import {
  areFilled, clearErrors, clearErrorsOnChange, setSending, setUpPasswordToggle, showErrors, showMessage, whileSending,
} from "./form.js";
import { go, leave, started } from "./page.js";
import { forgetLogin, read, storedToken, storeLogin } from "./storage.js";

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
  else await goOn();
}

async function goOn() {
  if (await go(next)) showMessage(describeFace("not_gone"));
}

async function goToQQ() {
  const answer = await fetchLoginURL(next);
  if (!answer.ok) {
    showErrors(form, answer);
    return;
  }
  if (await leave(answer.data.login_url, { keepsEntry: true })) showMessage(describeFace("qq_not_opened"));
}

/** Ask a user who is logged in already whether to go on. */
async function askToGoOn() {
  const token = storedToken();
  byId("signed-in").hidden = !token;
  if (!token) return;
  byId("signed-in-name").textContent = read("username") ?? "";
  const answer = await call("/user/", { token });
  if (storedToken() !== token) return; // meanwhile the user has logged in or out, here or in another tab
  if (answer.status === 401 || answer.status === 403) {
    forgetLogin();
    byId("signed-in").hidden = true;
  } else if (answer.ok && typeof answer.data.username === "string") {
    byId("signed-in-name").textContent = answer.data.username;
  }
}

for (const id of ["forgot", "register"]) byId(id).search = new URLSearchParams({ next });
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearErrors(form);
  if (areFilled([byId("username"), byId("password")])) whileSending(byId("login-submit"), logIn);
});
byId("qq-login").addEventListener("click", () => {
  clearErrors(form);
  whileSending(byId("qq-login"), goToQQ);
});
byId("go-on").addEventListener("click", () => whileSending(byId("go-on"), goOn));
clearErrorsOnChange(form);
setUpPasswordToggle(byId("toggle-password"), byId("password"));

// After "back" from QQ, the browser may restore this page with its buttons still disabled.
addEventListener("pageshow", () => {
  for (const id of ["login-submit", "qq-login", "go-on"]) setSending(byId(id), false);
  askToGoOn();
});
addEventListener("storage", askToGoOn);
started();
