import { API, call } from "./api.js";
import { areFilled, clearFieldError, setSending, showErrors, showFieldError } from "./form.js";

// The shop sends no second SMS to one number sooner.
const SMS_PAUSE = 60;

const [mobile, imageCode, smsCode] = ["mobile", "image-code", "sms-code"].map((id) => document.getElementById(id));
const picture = document.getElementById("image-code-picture");
const sendSMS = document.getElementById("send-sms");
const sendSMSLabel = document.getElementById("send-sms-label");
const smsSent = document.getElementById("sms-sent");
let imageCodeId;
let stopCounting = () => {};

/** Set up the part of a form that sends an SMS: number, picture, button. */
export function setUpSMS(form) {
  renewPicture();
  document.getElementById("image-code-renew").addEventListener("click", renewPicture);
  picture.addEventListener("error", () => {
    showFieldError(imageCode, "图形没有加载出来，点一下再试。The picture did not load: click it to try again.");
  });
  sendSMS.addEventListener("click", () => requestSMS(form));
  imageCode.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // the SMS is the next step here, not the whole form
    sendSMS.click();
  });
}

// Chinese keyboards type full-width digits, and address books fill in "+86 138 0013 8000".
const readDigits = (input) => input.value.normalize("NFKC").replace(/[^0-9]/g, "");
export const readMobile = () => readDigits(mobile).replace(/^86(?=1\d{10}$)/, "");
export const readSMSCode = () => readDigits(smsCode);

async function requestSMS(form) {
  clearFieldError(mobile);
  clearFieldError(imageCode);
  if (!/^1[3-9]\d{9}$/.test(readMobile())) {
    showFieldError(mobile, "请填写 11 位手机号。Please enter a mobile number of 11 digits.");
    mobile.focus();
    return;
  }
  if (!areFilled([imageCode])) return;
  setSending(sendSMS, true);
  const search = new URLSearchParams({ text: imageCode.value.trim(), image_code_id: imageCodeId });
  const answer = await call(`/sms_codes/${readMobile()}/?${search}`);
  setSending(sendSMS, false);
  if (answer.ok) {
    clearFieldError(smsCode);
    smsCode.value = ""; // the code of before is dead
    smsSent.textContent = "短信已发送，请查收。The SMS is on its way.";
    smsCode.focus();
    countDown(SMS_PAUSE);
  } else {
    showErrors(form, answer, imageCode);
    renewPicture(); // any check uses a picture up
    if (answer.status === 429) countDown(answer.retryAfter ?? SMS_PAUSE);
  }
}

/** Keep the button off for so long, or until another number is typed: the wait is that of the number. */
function countDown(seconds) {
  stopCounting();
  // Measured by the clock, because timers stand still while the shopper is away reading the SMS.
  const end = Date.now() + seconds * 1000;
  const number = readMobile();
  const english = sendSMS.querySelector(".en");
  const labels = [sendSMSLabel.textContent, english.textContent];
  sendSMS.disabled = true;
  const tick = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    if (left <= 0) {
      stopCounting();
      renewPicture();
    } else if (left < 90) {
      [sendSMSLabel.textContent, english.textContent] = [`${left} 秒后重发`, `again in ${left} s`];
    } else {
      const minutes = Math.ceil(left / 60);
      [sendSMSLabel.textContent, english.textContent] = [`${minutes} 分钟后重发`, `again in ${minutes} min`];
    }
  };
  const notice = () => {
    if (readMobile() !== number) stopCounting();
  };
  const timer = setInterval(tick, 1000);
  mobile.addEventListener("input", notice);
  stopCounting = () => {
    clearInterval(timer);
    mobile.removeEventListener("input", notice);
    [sendSMSLabel.textContent, english.textContent] = labels;
    sendSMS.disabled = false;
    smsSent.textContent = "";
    stopCounting = () => {};
  };
  tick();
}

function renewPicture() {
  imageCodeId = makeUUID();
  imageCode.value = "";
  picture.src = `${API}/image_codes/${imageCodeId}/`;
}

// crypto.randomUUID is missing on plain http, where development and old shops live.
function makeUUID() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
