import { sendForm } from "./api.js";
import { describeFace } from "./faces.js";
import {
  areFilled, clearErrors, clearErrorsOnChange, setUpPasswordToggle, showErrors, showMessage, whileSending,
} from "./form.js";
import { join } from "./language.js";
import { go, started } from "./page.js";
import { getSMSCodeMissing, readMobile, readSMSCode, setUpSMS } from "./sms.js";
import { storeLogin } from "./storage.js";
import { texts } from "./texts.js";

const byId = (id) => document.getElementById(id);
const form = byId("reset-form");
const next = new URLSearchParams(location.search).get("next") ?? "/";
let login = null; // with the new password, while the browser has not stored it

async function reset() {
  if (!login) {
    const body = { mobile: readMobile(), password: byId("password").value, sms_code: readSMSCode() };
    const answer = await sendForm("/password/", body);
    if (!answer.ok) {
      showErrors(form, answer);
      return;
    }
    login = answer.data;
  }
  const problem = storeLogin(login);
  if (problem) showMessage(join(texts.passwordSaved, describeFace(problem)));
  else if (await go(next)) showMessage(describeFace("not_gone"));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearErrors(form);
  const inputs = ["mobile", "sms-code", "password"].map(byId);
  if (areFilled(inputs, { "sms-code": getSMSCodeMissing() })) whileSending(byId("reset-submit"), reset);
});
form.addEventListener("input", () => { login = null; });
byId("back-to-login").search = new URLSearchParams({ next });
setUpSMS(form);
setUpPasswordToggle(byId("toggle-password"), byId("password"));
clearErrorsOnChange(form);
started();
