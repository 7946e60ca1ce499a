// @ts-check
import { getModels } from "./api.js";
import { byId, el } from "./dom.js";
import { percent } from "./emotions.js";

/** Query parameter -> the control that sets it. */
const CONTROLS = {
  model: "model",
  min_face_size: "min-face-size",
  min_confidence: "min-confidence",
  max_faces: "max-faces",
};

/**
 * The query that the controls ask for; what is left at its default is left out.
 * @returns {URLSearchParams}
 */
export function currentQuery() {
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
  form.addEventListener("change", () => {
    show();
    changed();
  });
  form.addEventListener("reset", () => {
    // The event comes before the controls have their old values back, and microtasks run before that too.
    setTimeout(() => {
      show();
      changed();
    });
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
  byId("min-confidence-value").textContent = percent(Number(control("min-confidence").value));
  byId("settings-changed").hidden = currentQuery().size === 0;
  for (const id of Object.values(CONTROLS)) {
    const input = control(id);
    input.setAttribute("aria-invalid", String(!input.checkValidity()));
  }
}

/**
 * @param {string} id
 * @returns {HTMLInputElement}
 */
function control(id) {
  return byId(id);
}
