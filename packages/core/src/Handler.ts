/**
 * What is done with a record.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Delivery } from "./ConsumerRecord.ts"
import type { Directive } from "./Directive.ts"
import { millis, refuse, topicNames } from "./internal/options.ts"

/**
 * A handler together with the topics that it handles. `E` is how it can fail, `R` what it needs.
 *
 * @since 0.1.0
 * @category models
 */
export interface Handler<out E, out R> extends Pipeable {
  readonly topics: readonly [string, ...Array<string>]
  /** May also fail with a `Directive`: that is not in `E`, because no policy is asked about it. */
  readonly handle: (record: Delivery) => Effect.Effect<unknown, E, R | Scope.Scope>
  /** How long an attempt for this topic may take, in milliseconds. */
  readonly timeoutMillis: (topic: string) => number | undefined
}

/**
 * @since 0.1.0
 */
export declare namespace Handler {
  /**
   * @since 0.1.0
   * @category models
   */
  export type Any = Handler<unknown, unknown>
  /**
   * @since 0.1.0
   * @category models
   */
  export type Error<H> = H extends Handler<infer E, unknown> ? E : never
  /**
   * @since 0.1.0
   * @category models
   */
  export type Services<H> = H extends Handler<unknown, infer R> ? R : never
  /**
   * The handler that a function's effect makes: its directives are taken out of the errors, and so is each attempt's Scope out of
   * the needs.
   *
   * @since 0.1.0
   * @category models
   */
  export type Of<Eff extends Effect.Effect<unknown, unknown, unknown>> = Handler<
    Directive.Rest<Effect.Error<Eff>>,
    Exclude<Effect.Services<Eff>, Scope.Scope> | Directive.Services<Effect.Error<Eff>>
  >
}

/**
 * An attempt took longer than its `Handler.timeout` and was interrupted.
 *
 * @since 0.1.0
 * @category errors
 */
export class HandlerTimeout extends Schema.TaggedError<HandlerTimeout>()("HandlerTimeout", {
  afterMillis: Schema.Number
}) {
  override get message(): string {
    return `the handler did not finish within ${this.afterMillis} ms and was interrupted`
  }
}

const build = <E, R>(parts: Omit<Handler<E, R>, "pipe">): Handler<E, R> => ({
  ...parts,
  pipe() {
    return pipeArguments(this, arguments)
  }
})

/**
 * Makes and changes handlers.
 *
 * @since 0.1.0
 * @category constructors
 */
export const Handler: {
  /**
   * A handler of undecoded records. Each attempt runs in a `Scope` of its own, which is closed before its outcome counts. It may
   * decide about its record itself, by failing with a `Directive`.
   *
   * **Errors**: throws `InvalidOptions` when a topic's name cannot be one.
   *
   * **Cost**: use one `Effect.fnUntraced` defined once; an `Effect.gen` created in each call costs 1.2 us more a record.
   */
  readonly make: <Eff extends Effect.Effect<unknown, unknown, unknown>>(
    topics: string | readonly [string, ...Array<string>],
    f: (record: Delivery) => Eff
  ) => Handler.Of<Eff>
  /**
   * One handler of all these topics, for one consumer. Each keeps its timeout.
   *
   * **Errors**: throws `InvalidOptions` when two of them handle the same topic.
   */
  readonly merge: <const Hs extends readonly [Handler.Any, ...Array<Handler.Any>]>(
    ...handlers: Hs
  ) => Handler<Handler.Error<Hs[number]>, Handler.Services<Hs[number]>>
  /**
   * Interrupts an attempt that takes longer, and adds `HandlerTimeout` to the handler's errors, so that a policy is asked.
   *
   * An attempt that ignores the interruption is decided about all the same after `interruptGrace`; it goes on as a zombie, which
   * keeps its permit. Uninterruptible work that has been finished nevertheless says so with `record.ack`.
   */
  readonly timeout: (duration: Duration.Input) => <E, R>(self: Handler<E, R>) => Handler<E | HandlerTimeout, R>
} = {
  make<Eff extends Effect.Effect<unknown, unknown, unknown>>(
    topics: string | readonly [string, ...Array<string>],
    f: (record: Delivery) => Eff
  ) {
    type Made = Handler.Of<Eff>
    const names = topicNames("topics", typeof topics === "string" ? [topics] : topics)
    // that `Handler.Of` takes directives and the Scope out of what Eff has is not seen through a type parameter
    return build({ topics: names, handle: f as Made["handle"], timeoutMillis: () => undefined })
  },
  merge<const Hs extends readonly [Handler.Any, ...Array<Handler.Any>]>(...handlers: Hs) {
    type Made = Handler<Handler.Error<Hs[number]>, Handler.Services<Hs[number]>>
    const byTopic = new Map<string, Handler.Any>()
    for (const handler of handlers) {
      for (const topic of handler.topics) {
        if (byTopic.has(topic)) refuse("topics", topic, "each topic in one of the merged handlers only")
        byTopic.set(topic, handler)
      }
    }
    return build({
      topics: topicNames("topics", [...byTopic.keys()]),
      // a topic of none of them is not in `topics`, so that nobody consumes it for this handler
      handle: (record) => byTopic.get(record.topic)!.handle(record),
      timeoutMillis: (topic) => byTopic.get(topic)?.timeoutMillis(topic)
      // the map forgets which of them it was, and with it how that one fails and what it needs
    }) as Made
  },
  timeout(duration) {
    const limit = millis("timeout", duration, 0, 1)
    return (self) =>
      build({
        topics: self.topics,
        handle: self.handle,
        timeoutMillis: (topic) => Math.min(limit, self.timeoutMillis(topic) ?? limit)
      })
  }
}
