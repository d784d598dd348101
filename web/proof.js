// The part of a form that proves who the user is: a mobile number and its SMS code, a password, or both.

import { clearErrors } from "./form.js";
import { showText } from "./language.js";
import { getSMSCodeMissing, readMobile, readSMSCode, showWait } from "./sms.js";
import { mobileHint, texts } from "./texts.js";

const byId = (id) => document.getElementById(id);
const [mobile, smsCode, password] = ["mobile", "sms-code", "password"].map(byId);
let fields = [];

/** Ask for these fields of the API. `mobile`: the number is part of the form; otherwise only its owner's code is. */
export function askFor(newFields) {
  fields = newFields;
  byId("sms-proof").hidden = !fields.includes("sms_code");
  byId("password-proof").hidden = !fields.includes("password");
  showWait();
}

/** Ask for one of these fields: the password, and the SMS code at the press of a button. */
export function askForOneOf(allFields) {
  const other = byId("other-proof");
  const choose = (field) => {
    askFor([field]);
    showText(other, field === "password" ? texts.useSMS : texts.usePassword);
  };
  const kinds = ["password", "sms_code"].filter((field) => allFields.includes(field));
  other.hidden = kinds.length < 2;
  other.onclick = () => {
    clearErrors(other.form);
    choose(fields[0] === "password" ? "sms_code" : "password");
    (fields[0] === "password" ? password : mobile).focus();
  };
  choose(kinds[0] ?? "password");
}

/** Show which number the SMS code goes to: `masked`, as in 138****5678. */
export function showMobileHint(masked) {
  showText(byId("mobile-hint"), masked ? mobileHint(masked) : null);
}

export function getInputs() {
  return [
    ...(fields.includes("sms_code") ? [mobile, smsCode] : []),
    ...(fields.includes("password") ? [password] : []),
  ];
}

export const getTextsIfEmpty = () => ({ "sms-code": getSMSCodeMissing() });

export function readProof() {
  const values = { mobile: readMobile(), password: password.value, sms_code: readSMSCode() };
  return Object.fromEntries(Object.entries(values).filter(([name]) => fields.includes(name)));
}
