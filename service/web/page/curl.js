// @ts-check
import { detectUrl } from "./api.js";

/**
 * The command that asks the same in a POSIX shell.
 * @param {File} file
 * @param {URLSearchParams} query
 * @param {boolean} withKey the key itself is not shown: the line reads it from the environment
 * @returns {string}
 */
export function curlLine(file, query, withKey) {
  const type = file.type || "application/octet-stream";
  const parts = [
    `curl ${quoted(detectUrl(query))}`,
    `-H ${quoted(`Content-Type: ${type}`)}`,
    ...(withKey ? ['-H "X-API-Key: $FER_CLIENT_API_KEY"'] : []),
    `--data-binary ${quoted(`@${file.name}`)}`,
  ];
  return parts.join(" \\\n  ");
}

/** @param {string} text */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
