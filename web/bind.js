import { sendForm } from "./api.js";
import { areFilled, clearErrors, clearErrorsOnChange, setUpPasswordToggle, showErrors, whileSending } from "./form.js";
import { readMobile, readSMSCode, setUpSMS } from "./sms.js";

// After these errors no further try with this bind token can succeed.
const FINAL_CODES = ["bind_token_missing", "bind_token_invalid", "bind_tries", "already_bound"];

const form = document.getElementById("bind-form");
const [mobile, smsCode, password] = ["mobile", "sms-code", "password"].map((id) => document.getElementById(id));
const submit = document.getElementById("bind-submit");

/** Set up the form. `onBound` gets the data of the login; `onFinalError` an answer that needs a new login. */
export function setUpBindForm(bindToken, { onBound, onFinalError }) {
  setUpSMS(form);
  setUpPasswordToggle(document.getElementById("toggle-password"), password);
  clearErrorsOnChange(form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearErrors(form);
    if (!areFilled([mobile, smsCode, password])) return;
    whileSending(submit, async () => {
      const answer = await sendForm("/oauth/qq/users/", readForm(bindToken), { withCookies: true });
      if (answer.ok) await onBound(answer.data);
      else if (FINAL_CODES.includes(answer.data.code)) onFinalError(answer);
      else showErrors(form, answer);
    });
  });
}

function readForm(bindToken) {
  return {
    mobile: readMobile(),
    password: password.value,
    sms_code: readSMSCode(),
    access_token: bindToken,
  };
}
