// @ts-check
import { getModels } from "./api.js";
import { byId, el } from "./dom.js";
import { percent } from "./emotions.js";
import { problemCard } from "./problem.js";

/** Query parameter -> the control that sets it. */
const CONTROLS = {
  model: "model",
  min_face_size: "min-face-size",
  min_confidence: "min-confidence",
  max_faces: "max-faces",
};

/** What is asked. A value that its control does not take leaves it as it was. */
let asked = new URLSearchParams();

/** @returns {URLSearchParams} */
export function currentQuery() {
  return asked;
}

/**
 * The query that the controls ask for; what is left at its default is left out.
 * @returns {URLSearchParams}
 */
function chosen() {
  const query = new URLSearchParams();
  for (const [name, id] of Object.entries(CONTROLS)) {
    const { value } = control(id);
    if (value && !(id === "min-confidence" && Number(value) === 0)) query.set(name, value);
  }
  return query;
}

/**
 * Call back whenever a control has changed.
 * @param {() => void} changed
 */
export function onSettingsChange(changed) {
  const form = byId("settings-form");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", show);
  const take = () => {
    show();
    const wrong = Object.entries(CONTROLS).filter(([, id]) => !control(id).checkValidity());
    byId("settings-problem").replaceChildren(...wrong.map(([name, id]) => problemCard(problemOf(name, control(id)))));
    if (wrong.length) return;
    asked = chosen();
    changed();
  };
  form.addEventListener("change", take);
  form.addEventListener("reset", () => {
    // The event comes before the controls have their old values back, and microtasks run before that too.
    setTimeout(take);
  });
}

/** Offer the models that the service has. */
export async function offerModels() {
  const models = await getModels();
  const options = models.map((model) => {
    const words = model.label_set === "ferplus" ? ", by votes" : "";
    const text = `${model.name}${words}${model.default ? " (default)" : ""}`;
    return el("option", { value: model.default ? "" : model.name }, text);
  });
  control("model").replaceChildren(...options);
}

function show() {
  const confidence = percent(Number(control("min-confidence").value));
  byId("min-confidence-value").textContent = confidence;
  control("min-confidence").setAttribute("aria-valuetext", confidence);
  byId("settings-changed").hidden = chosen().toString() === "";
  for (const id of Object.values(CONTROLS)) {
    const input = control(id);
    input.setAttribute("aria-invalid", String(!input.checkValidity()));
  }
}

/**
 * @param {string} name
 * @param {HTMLInputElement} input
 * @returns {import("./api.js").Problem}
 */
function problemOf(name, input) {
  const label = input.labels?.[0].textContent ?? "";
  const detail = `It takes a whole number from ${input.min} to ${input.max}; what was asked before still holds.`;
  return { title: `${label} (${name}) has a value that it cannot have`, detail, code: "invalid_parameter" };
}

/**
 * @param {string} id
 * @returns {HTMLInputElement}
 */
function control(id) {
  return byId(id);
}
