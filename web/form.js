import { describeFailure } from "./api.js";
import { fromAPI, showText } from "./language.js";
import { texts } from "./texts.js";

// The `name` of an input is its field in the API; the element `<id>-error` shows its error.
const getInputs = (form) => [...form.querySelectorAll("input[name]")];

export function showFieldError(input, text) {
  input.setAttribute("aria-invalid", "true");
  showText(document.getElementById(`${input.id}-error`), text);
}

export function clearFieldError(input) {
  input.removeAttribute("aria-invalid");
  showText(document.getElementById(`${input.id}-error`), null);
}

export function clearErrors(form) {
  getInputs(form).forEach(clearFieldError);
  showText(document.getElementById("form-message"), null);
}

/**
 * Show the API's errors beside their fields. If the answer names no field of the form, show its message at the top, or
 * with status 400 beside `fallbackInput`, if given.
 */
export function showErrors(form, answer, fallbackInput) {
  const invalid = getInputs(form).filter((input) => answer.data[input.name] && !input.closest("[hidden]"));
  for (const input of invalid) {
    const message = [].concat(answer.data[input.name]).join(" ");
    showFieldError(input, fromAPI(message, answer.language, texts.checkField));
  }
  if (!invalid.length && fallbackInput && answer.status === 400) {
    showFieldError(fallbackInput, describeFailure(answer));
    invalid.push(fallbackInput);
  }
  if (invalid.length) {
    invalid[0].focus();
    return;
  }
  showMessage(describeFailure(answer));
}

/** Show a message at the top of the form. On a phone it is out of view when the button is pressed: focus scrolls. */
export function showMessage(text) {
  const message = document.getElementById("form-message");
  showText(message, text);
  message.focus();
}

/** Return whether all inputs are filled in; show an error beside each empty one, by id that of `ifEmpty` if given. */
export function areFilled(inputs, ifEmpty = {}) {
  const empty = inputs.filter((input) => (input.type === "checkbox" ? !input.checked : !input.value));
  for (const input of empty) showFieldError(input, ifEmpty[input.id] ?? texts.fillIn);
  empty[0]?.focus();
  return empty.length === 0;
}

export function setSending(button, isSending) {
  button.disabled = isSending;
  button.setAttribute("aria-busy", isSending);
}

/** Switch the button off while the action runs, whatever comes of it. */
export async function whileSending(button, action) {
  setSending(button, true);
  try {
    await action();
  } finally {
    setSending(button, false);
  }
}

/** Clear the error of an input as soon as the input changes, and those that may have been its fault. */
export function clearErrorsOnChange(form) {
  const [first, ...others] = getInputs(form); // the first one says whose code and password the others are
  const clear = ({ target }) => {
    showText(document.getElementById("form-message"), null);
    if (target.name) clearFieldError(target);
    if (target === first) others.filter((input) => input.value).forEach(clearFieldError);
  };
  form.addEventListener("input", clear);
  form.addEventListener("change", clear); // some browsers fill in a saved password without an input event
}

/** Make the button show and hide the text of the password field. */
export function setUpPasswordToggle(button, password) {
  button.addEventListener("click", () => {
    const isShown = password.type === "text";
    password.type = isShown ? "password" : "text";
    button.setAttribute("aria-pressed", !isShown);
  });
}
