import { call, fetchLoginURL, go, storeLogin } from "./api.js";
import { areFilled, clearErrors, clearErrorsWhileTyping, setSending, setUpPasswordToggle, showErrors } from "./form.js";

const byId = (id) => document.getElementById(id);
const form = byId("login-form");
const next = new URLSearchParams(location.search).get("next") ?? "/";

async function logIn(event) {
  event.preventDefault();
  clearErrors(form);
  if (!areFilled([byId("username"), byId("password")])) return;
  setSending(byId("login-submit"), true);
  const body = { username: byId("username").value.trim(), password: byId("password").value };
  const answer = await call("/authorizations/", { method: "POST", body });
  if (answer.ok) {
    storeLogin(answer.data);
    go(next);
    return;
  }
  setSending(byId("login-submit"), false);
  showErrors(form, answer);
}

async function goToQQ() {
  clearErrors(form);
  setSending(byId("qq-login"), true);
  const answer = await fetchLoginURL(next);
  if (answer.ok) {
    location.assign(answer.data.login_url);
    return;
  }
  setSending(byId("qq-login"), false);
  showErrors(form, answer);
}

byId("forgot").search = new URLSearchParams({ next });
form.addEventListener("submit", logIn);
byId("qq-login").addEventListener("click", goToQQ);
clearErrorsWhileTyping(form);
setUpPasswordToggle(byId("toggle-password"), byId("password"));

// After "back" from QQ, the browser may restore this page with its buttons still disabled.
addEventListener("pageshow", () => {
  setSending(byId("login-submit"), false);
  setSending(byId("qq-login"), false);
});
