import { call, go, storeLogin } from "./api.js";
import { areFilled, clearErrors, clearErrorsWhileTyping, setSending, setUpPasswordToggle, showErrors } from "./form.js";
import { readMobile, readSMSCode, setUpSMS } from "./sms.js";

const byId = (id) => document.getElementById(id);
const form = byId("reset-form");
const next = new URLSearchParams(location.search).get("next") ?? "/";

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearErrors(form);
  if (!areFilled([byId("mobile"), byId("sms-code"), byId("password")])) return;
  setSending(byId("reset-submit"), true);
  const body = { mobile: readMobile(), password: byId("password").value, sms_code: readSMSCode() };
  const answer = await call("/password/", { method: "POST", body });
  if (answer.ok) {
    storeLogin(answer.data);
    go(next);
    return;
  }
  setSending(byId("reset-submit"), false);
  showErrors(form, answer);
});

byId("back-to-login").search = new URLSearchParams({ next });
setUpSMS(form);
setUpPasswordToggle(byId("toggle-password"), byId("password"));
clearErrorsWhileTyping(form);
