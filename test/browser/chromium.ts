/** The Chromium that is there, if any: the live page is tried in a real one. */
import { existsSync } from "node:fs"
import { delimiter, join } from "node:path"
import { chromium as playwright, type Browser } from "playwright-core"

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
const usual = [
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe"
]

/** `CHROMIUM_PATH`, or what is on the path, or where it usually is. */
export const chromium = ((): string | undefined => {
  const given = process.env["CHROMIUM_PATH"]
  if (given !== undefined && given !== "") return given
  const folders = (process.env["PATH"] ?? "").split(delimiter)
  return [...folders.flatMap((folder) => names.map((name) => join(folder, name))), ...usual].find((file) =>
    existsSync(file)
  )
})()

export const launch = (): Promise<Browser> =>
  playwright.launch({
    ...(chromium === undefined ? {} : { executablePath: chromium }),
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
  })
