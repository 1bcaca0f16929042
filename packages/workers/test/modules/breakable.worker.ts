/** Can be loaded for as long as the file that its URL names is not there. */
import { existsSync } from "node:fs"

export { error, handler } from "./jobs.worker.ts"

if (existsSync(new URL(import.meta.url).searchParams.get("broken") ?? "")) throw new Error("no model here")
