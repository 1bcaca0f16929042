/**
 * Carries out what goes wrong in a history.
 */
import * as Effect from "effect/Effect"
import type { Cluster } from "../MemoryKafka.ts"
import type { Trouble } from "./historyPlan.ts"
import type { Members } from "./members.ts"
import type { Timeline } from "./timeline.ts"
import { Realm, type World } from "../World.ts"

export interface TroublesOptions {
  readonly world: World
  readonly cluster: Cluster
  readonly timeline: Timeline
  readonly members: Pick<Members<never>, "start" | "close" | "crash" | "freeze" | "rollingRestart" | "sessionsOf">
  readonly groupId: string
}

export class Troubles {
  private readonly options: TroublesOptions
  private readonly hand: Realm
  /** what lasts, and how it ends */
  private readonly lasting = new Set<() => void>()

  constructor(options: TroublesOptions) {
    this.options = options
    this.hand = new Realm("troubles", options.world)
  }

  private lasts(ms: number, end: () => void): void {
    const once = () => {
      if (this.lasting.delete(once)) end()
    }
    this.lasting.add(once)
    this.options.world.after(this.hand, ms, once)
  }

  happen(trouble: Trouble): void {
    const { cluster, groupId, members, timeline } = this.options
    switch (trouble.kind) {
      case "join":
        return members.start(trouble.member)
      case "leave":
        return members.close(trouble.member)
      case "restart":
        return members.close(trouble.member, () => members.start(trouble.member))
      case "rollingRestart":
        return members.rollingRestart()
      case "crash":
        return members.crash(trouble.member, trouble.ops, trouble.ms)
      case "freeze":
        return members.freeze(trouble.member, trouble.ops, trouble.ms)
      case "rebalance":
        timeline.say("kafka", () => "rebalances the group")
        return Effect.runSync(cluster.rebalance(groupId))
      case "brokerDown":
        timeline.say("kafka", () => `is down for ${trouble.ms} ms`)
        Effect.runSync(cluster.brokerDown)
        return this.lasts(trouble.ms, () => {
          timeline.say("kafka", () => "is up again")
          Effect.runSync(cluster.brokerUp)
        })
      case "fault": {
        const { kind, ...rest } = trouble.fault
        const detail = Object.values(rest).join(" ")
        const times = trouble.times === 1 ? "" : `, ${trouble.times} times`
        timeline.say(
          "kafka",
          () => `will meet the next ${trouble.api} with ${kind}${detail === "" ? "" : ` ${detail}`}${times}`
        )
        return cluster.faults.next(trouble.api, trouble.fault, { times: trouble.times })
      }
      case "evict":
      case "breakConnections":
      case "disconnect":
        for (const session of members.sessionsOf(trouble.member)) {
          timeline.say(session.clientId, () => said[trouble.kind])
          if (trouble.kind !== "disconnect") {
            Effect.runSync(session[trouble.kind])
            continue
          }
          Effect.runSync(session.disconnect)
          this.lasts(trouble.ms, () => {
            timeline.say(session.clientId, () => "has its network again")
            Effect.runSync(session.reconnect)
          })
        }
    }
  }

  heal(): void {
    this.options.cluster.faults.clear()
    for (const end of [...this.lasting]) end()
  }
}

const said = {
  evict: "is thrown out of the group",
  breakConnections: "loses its connections",
  disconnect: "has no network"
} as const
