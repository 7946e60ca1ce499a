// @ts-check
import { hasDocs, problemOf, useKey } from "./api.js";
import { copyButton } from "./copy.js";
import { announce, byId } from "./dom.js";
import { takePhotos } from "./intake.js";
import { Live } from "./live.js";
import { Photos } from "./photos.js";
import { problemCard } from "./problem.js";
import { offerModels, onSettingsChange } from "./settings.js";
import { tabList } from "./tabs.js";

const photos = new Photos(onFailure);
const live = new Live(onFailure);
const photosTab = byId("tab-photos");
const choose = tabList([photosTab, byId("tab-camera")], (tab) => {
  if (tab === photosTab) live.stop();
});

takePhotos((files) => {
  choose(photosTab);
  photos.add(files);
});
onSettingsChange(() => {
  photos.refresh();
  live.restart();
});
copyButton("copy-curl", "curl", "curl line");
copyButton("copy-json", "json", "JSON");
byId("key-form").addEventListener("submit", takeKey);
loadModels();
// An operator may have switched it off.
hasDocs().then((there) => (byId("docs").hidden = !there));

async function loadModels() {
  try {
    await offerModels();
  } catch (error) {
    onFailure(problemOf(error));
  }
}

/** @param {import("./api.js").Problem} problem */
function onFailure(problem) {
  const form = byId("key-form");
  if (problem.code !== "unauthorized" || !form.hidden) return;
  form.hidden = false;
  announce("This service asks for an API key, in the field before the photos");
}

/** @param {Event} event */
async function takeKey(event) {
  event.preventDefault();
  const input = /** @type {HTMLInputElement} */ (byId("key"));
  const key = input.value;
  input.value = "";
  byId("key-problem").replaceChildren();
  announce("");
  try {
    useKey(key);
    await offerModels();
  } catch (error) {
    byId("key-problem").replaceChildren(problemCard(problemOf(error)));
    input.focus();
    return;
  }
  byId("key-form").hidden = true;
  // The focus would be lost with the form: it goes to what a key is needed for.
  byId(photosTab.getAttribute("aria-selected") === "true" ? "choose" : "camera-toggle").focus();
  announce("Key taken");
  photos.retryFailed();
  live.keyTaken();
}
