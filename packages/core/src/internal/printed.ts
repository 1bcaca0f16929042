/**
 * What is printed of objects that hold a record, or an error that may quote one, by whoever has them in hands: JSON, Node's `inspect`, and
 * Effect's loggers, which ask for a text.
 */
import * as Cause from "effect/Cause"
import type { Delivery } from "../ConsumerRecord.ts"
import { describe } from "./describe.ts"

const inspected = Symbol.for("nodejs.util.inspect.custom")

/** Where it is, nothing of its content. */
export const printedDelivery = ({ attempt, epoch, offset, partition, topic }: Delivery): unknown => ({
  topic,
  partition,
  offset: String(offset),
  attempt,
  epoch
})

/** Printed from here on with the name of its cause and where that was made; the cause itself stays where it is. */
export const printedWithoutCause = (reason: { readonly cause: unknown }): void => {
  const { cause } = reason
  const causes: ReadonlyArray<unknown> = cause instanceof AggregateError ? [cause, ...cause.errors] : [cause]
  const shown = () => ({ ...reason, cause: causes.map((one) => describe(Cause.fail(one))).join("; ") })
  const json = () =>
    Object.fromEntries(
      Object.entries(shown()).map(([key, value]) => [key, typeof value === "bigint" ? String(value) : value])
    )
  // somebody's own, who may have made an error of it before
  if (!Object.isExtensible(reason)) return
  const configurable = true
  Object.defineProperties(reason, {
    toJSON: { configurable, value: json },
    toString: { configurable, value: () => JSON.stringify(json()) },
    [inspected]: { configurable, value: shown }
  })
}
