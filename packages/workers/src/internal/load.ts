/** Imports the module of a pool, and looks whether it is one. */
import * as Schema from "effect/Schema"
import type { WorkerModule } from "../WorkerModule.ts"
import { thrownOf, type Reply } from "./wire.ts"

interface Loaded {
  readonly module: WorkerModule | undefined
  readonly reply: Reply
}

export const load = async (href: string): Promise<Loaded> => {
  let exported: Readonly<Record<string, unknown>>
  try {
    exported = (await import(href)) as Readonly<Record<string, unknown>>
  } catch (error) {
    const { detail, name } = thrownOf(error)
    return unusable("import", `${name}: ${detail}`)
  }
  const { error, handler } = exported
  if (!isHandler(handler)) {
    const others = Object.keys(exported).join(", ")
    return unusable(
      "handler",
      handler === undefined
        ? `it has no export "handler"; it exports ${others === "" ? "nothing" : others}`
        : `its export "handler" is not a function`
    )
  }
  if (error === undefined) return { module: { handler }, reply: { _tag: "Loaded" } }
  if (!isCodec(error)) return unusable("error", `its export "error" is not a schema`)
  return { module: { handler, error }, reply: { _tag: "Loaded" } }
}

const unusable = (why: "import" | "handler" | "error", detail: string): Loaded => ({
  module: undefined,
  reply: { _tag: "Unusable", why, detail }
})

// what it takes and needs is for the types to say
const isHandler = (value: unknown): value is WorkerModule["handler"] => typeof value === "function"
const isCodec = (value: unknown): value is NonNullable<WorkerModule["error"]> => Schema.isSchema(value)
