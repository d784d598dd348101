import { sendForm } from "./api.js";
import { describeFace } from "./faces.js";
import {
  areFilled, clearErrors, clearErrorsOnChange, setUpPasswordToggle, showErrors, showFieldError, showMessage,
  whileSending,
} from "./form.js";
import { join } from "./language.js";
import { go, started } from "./page.js";
import { getSMSCodeMissing, readMobile, readSMSCode, setUpSMS } from "./sms.js";
import { storeLogin } from "./storage.js";
import { texts } from "./texts.js";

const byId = (id) => document.getElementById(id);
const form = byId("register-form");
const next = new URLSearchParams(location.search).get("next") ?? "/";
let login = null; // of the new account, while the browser has not stored it

async function register() {
  if (!login) {
    const answer = await sendForm("/users/", readForm());
    if (!answer.ok) {
      showErrors(form, answer);
      return;
    }
    login = { user_id: answer.data.id, ...answer.data };
  }
  const problem = storeLogin(login);
  if (problem) showMessage(join(texts.registered, describeFace(problem)));
  else if (await go(next)) showMessage(describeFace("not_gone"));
}

function readForm() {
  const [username, password, password2] = ["username", "password", "password2"].map((id) => byId(id).value);
  const names = { username: username.trim(), password, password2 };
  return { ...names, mobile: readMobile(), sms_code: readSMSCode(), allow: byId("allow").checked };
}

function isComplete() {
  const inputs = ["username", "password", "password2", "mobile", "sms-code", "allow"].map(byId);
  if (!areFilled(inputs, { "sms-code": getSMSCodeMissing(), allow: texts.agree })) return false;
  if (byId("password").value === byId("password2").value) return true;
  showFieldError(byId("password2"), texts.passwordsDiffer);
  byId("password2").focus();
  return false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearErrors(form);
  if (isComplete()) whileSending(byId("register-submit"), register);
});
form.addEventListener("input", () => { login = null; });
byId("back-to-login").search = new URLSearchParams({ next });
setUpSMS(form);
setUpPasswordToggle(byId("toggle-password"), byId("password"));
clearErrorsOnChange(form);
started();
