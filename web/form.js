import { describeFailure } from "./api.js";

// The `name` of an input is its field in the API; the element `<id>-error` shows its error.
const getInputs = (form) => [...form.querySelectorAll("input[name]")];

export function showFieldError(input, text) {
  input.setAttribute("aria-invalid", "true");
  document.getElementById(`${input.id}-error`).textContent = text;
}

export function clearFieldError(input) {
  input.removeAttribute("aria-invalid");
  document.getElementById(`${input.id}-error`).textContent = "";
}

export function clearErrors(form) {
  getInputs(form).forEach(clearFieldError);
  document.getElementById("form-message").textContent = "";
}

/**
 * Show the API's errors beside their fields. If the answer names no field of the form, show its message at the top, or
 * with status 400 beside `fallbackInput`, if given.
 */
export function showErrors(form, answer, fallbackInput) {
  const invalid = getInputs(form).filter((input) => answer.data[input.name]);
  for (const input of invalid) {
    showFieldError(input, [].concat(answer.data[input.name]).join(" "));
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

/** Show a message at the top of the form. On a phone it is out of view when the button is pressed: focus scrolls to it. */
export function showMessage(text) {
  const message = document.getElementById("form-message");
  message.textContent = text;
  message.focus();
}

/** Return whether all inputs are filled in; show an error beside each empty one, its own `data-if-empty` if it has one. */
export function areFilled(inputs) {
  const empty = inputs.filter((input) => !input.value);
  for (const input of empty) showFieldError(input, input.dataset.ifEmpty ?? "请填写这一项。Please fill this in.");
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
    document.getElementById("form-message").textContent = "";
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
