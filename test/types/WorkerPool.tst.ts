// oxlint-disable typescript/unbound-method -- only their types are looked at
import { Handler, type InvalidOptions } from "@concurrent-kafka/core"
import {
  type JobContext,
  type ModuleUnusable,
  type WorkerError,
  type WorkerModule,
  WorkerPool,
  type WorkerRecord
} from "@concurrent-kafka/workers"
import { Context, Effect, type Layer, Schema, type Scope } from "effect"
import { describe, expect, test } from "tstyche"

class BadImage extends Schema.TaggedError<BadImage>()("BadImage", { why: Schema.String }) {}
class Other extends Schema.TaggedError<Other>()("Other", {}) {}
class Db extends Context.Service<Db, { readonly query: Effect.Effect<void> }>()("Db") {}

// what `typeof Module` is of a module with these exports
declare const plain: { readonly handler: (record: WorkerRecord) => number }
declare const promised: { readonly handler: (record: WorkerRecord, context: JobContext) => Promise<string> }
declare const effect: {
  readonly handler: (record: WorkerRecord) => Effect.Effect<number, BadImage, Scope.Scope>
  readonly error: typeof BadImage
}
declare const needs: { readonly handler: (record: WorkerRecord) => Effect.Effect<void, never, Db> }
declare const none: { readonly process: (record: WorkerRecord) => void }
declare const wants: { readonly handler: (record: { readonly image: string }) => void }

const module = new URL("file:///handler.worker.js")

describe("a pool", () => {
  test("answers with what the module's handler answers: a value, a promise or an effect", () => {
    expect(WorkerPool.make<typeof plain>({ module })).type.toBe<
      Effect.Effect<WorkerPool<number, never>, InvalidOptions | ModuleUnusable, Scope.Scope>
    >()
    expect<WorkerModule.Success<typeof promised>>().type.toBe<string>()
    expect<WorkerModule.Success<typeof effect>>().type.toBe<number>()
  })

  test("fails with the errors of the module's schema, and those of threads", () => {
    const pool = Effect.runSync(Effect.scoped(WorkerPool.make<typeof effect>({ module, error: BadImage })))
    expect(pool.handle).type.toBe<(record: WorkerRecord) => Effect.Effect<number, BadImage | WorkerError>>()
    expect(Handler.make("images", pool.handle)).type.toBe<Handler<BadImage | WorkerError, never>>()
  })

  test("has to be given the module's schema, and no other", () => {
    expect(WorkerPool.make<typeof effect>).type.not.toBeCallableWith({ module })
    expect(WorkerPool.make<typeof effect>).type.not.toBeCallableWith({ module, error: Other })
    expect(WorkerPool.make<typeof plain>).type.not.toBeCallableWith({ module, error: BadImage })
  })

  test("is not made of a module whose handler is missing, wants something else, or needs what nobody provides", () => {
    expect(WorkerPool.make).type.not.toBeInstantiableWith<[typeof none]>()
    expect(WorkerPool.make).type.not.toBeInstantiableWith<[typeof wants]>()
    expect(WorkerPool.make<typeof needs>).type.not.toBeCallableWith({ module })
  })

  test("as a service is what its handler needs", () => {
    class Images extends WorkerPool.Tag<Images, typeof effect>()("test/Images") {}
    const handler = Handler.make("images", Images.handle)
    expect(handler).type.toBe<Handler<BadImage | WorkerError, Images>>()
    expect(Images.layer({ module, error: BadImage })).type.toBe<Layer.Layer<Images, InvalidOptions | ModuleUnusable>>()
  })
})
