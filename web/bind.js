import { call } from "./api.js";
import { areFilled, clearErrors, clearErrorsWhileTyping, setSending, setUpPasswordToggle, showErrors } from "./form.js";
import { readMobile, readSMSCode, setUpSMS } from "./sms.js";

// After these errors no further try with this bind token can succeed.
const FINAL_CODES = ["bind_token_missing", "bind_token_invalid", "bind_tries", "already_bound"];

// The sessionStorage key of the typed number. A phone may reload the page after the user has read the SMS.
export const MOBILE_KEY = "qq_mobile";

const form = document.getElementById("bind-form");
const [mobile, smsCode, password] = ["mobile", "sms-code", "password"].map((id) => document.getElementById(id));
const submit = document.getElementById("bind-submit");

/** Set up the form. `onBound` gets the data of the login; `onFinalError` an answer that needs a new login. */
export function setUpBindForm(bindToken, { onBound, onFinalError }) {
  mobile.value = sessionStorage.getItem(MOBILE_KEY) ?? mobile.value;
  mobile.addEventListener("input", () => sessionStorage.setItem(MOBILE_KEY, mobile.value));
  setUpSMS(form);
  setUpPasswordToggle(document.getElementById("toggle-password"), password);
  clearErrorsWhileTyping(form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearErrors(form);
    if (!areFilled([mobile, smsCode, password])) return;
    setSending(submit, true);
    const answer = await call("/oauth/qq/users/", { method: "POST", body: readForm(bindToken), withCookies: true });
    if (answer.ok && answer.data.token) {
      onBound(answer.data);
      return;
    }
    setSending(submit, false);
    if (FINAL_CODES.includes(answer.data.code)) onFinalError(answer);
    else showErrors(form, answer);
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
