/**
 * Decides which fault a request meets, and keeps the books.
 */
import type { Api, Fault, FaultKind, Faults, InjectedFault, RandomFaults, Target } from "../Faults.ts"
import type { Time } from "./time.ts"
import { MisuseError } from "./topics.ts"

interface Script {
  readonly api: Api
  readonly fault: Fault
  readonly target: Target
  left: number
}

export interface Requester {
  readonly sessionId: string
  readonly clientId: string
  readonly groupId: string
}

/** What Kafka answers when nothing is wrong that a retry does not mend. */
const retriable: { readonly [A in Api]: ReadonlyArray<string> } = {
  metadata: ["UNKNOWN_SERVER_ERROR"],
  join: ["COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR"],
  sync: ["COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR"],
  heartbeat: ["COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR"],
  leave: ["NOT_COORDINATOR"],
  offsetFetch: ["COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "UNSTABLE_OFFSET_COMMIT"],
  commit: ["COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "REQUEST_TIMED_OUT"],
  fetch: ["NOT_LEADER_OR_FOLLOWER", "KAFKA_STORAGE_ERROR"],
  listOffsets: ["NOT_LEADER_OR_FOLLOWER"],
  produce: ["NOT_LEADER_OR_FOLLOWER", "NOT_ENOUGH_REPLICAS", "REQUEST_TIMED_OUT"]
}

const matches = (target: Target, requester: Requester): boolean =>
  (target.sessionId === undefined || target.sessionId === requester.sessionId) &&
  (target.clientId === undefined || target.clientId === requester.clientId) &&
  (target.groupId === undefined || target.groupId === requester.groupId)

export class FaultBook implements Faults {
  private readonly time: Time
  private readonly trace: (event: () => string) => void
  private scripts: Array<Script> = []
  private chances: Array<RandomFaults> = []
  private readonly happened: Array<InjectedFault> = []
  private readonly numbers = new Map<string, number>()

  constructor(time: Time, trace: (event: () => string) => void) {
    this.time = time
    this.trace = trace
  }

  readonly next: Faults["next"] = (api, fault, options = {}) => {
    const left = options.times ?? 1
    this.scripts.push({ api, fault, target: options, left })
  }

  readonly random: Faults["random"] = (options) => {
    for (const [api, weights] of Object.entries(options.weights)) {
      const sum = Object.values(weights ?? {}).reduce<number>((a, b) => a + (b ?? 0), 0)
      if (sum > 1) throw new MisuseError(`the faults of ${api} weigh ${sum}, more than 1`)
    }
    this.chances.push(options)
    return () => {
      this.chances = this.chances.filter((chance) => chance !== options)
    }
  }

  readonly clear = (): void => {
    this.scripts = []
    this.chances = []
  }

  readonly injected = (): ReadonlyArray<InjectedFault> => this.happened
  readonly counts = (): ReadonlyMap<string, number> => this.numbers

  /** The fault that this request meets. */
  meet(api: Api, requester: Requester): Fault | undefined {
    const fault = this.scripted(api, requester) ?? this.byChance(api, requester)
    if (fault !== undefined) this.record(`${api}:${fault.kind}`, requester)
    return fault
  }

  record(kind: string, requester: Requester): void {
    this.numbers.set(kind, (this.numbers.get(kind) ?? 0) + 1)
    this.happened.push({ at: this.time.now(), kind, ...requester })
    this.trace(() => `fault ${kind} ${requester.sessionId || requester.groupId}`)
  }

  private scripted(api: Api, requester: Requester): Fault | undefined {
    const script = this.scripts.find((s) => s.api === api && matches(s.target, requester))
    if (script === undefined) return undefined
    if (--script.left <= 0) this.scripts = this.scripts.filter((s) => s !== script)
    return script.fault
  }

  private byChance(api: Api, requester: Requester): Fault | undefined {
    for (const chance of this.chances) {
      const weights = chance.weights[api]
      if (weights === undefined || !matches(chance.target ?? {}, requester)) continue
      let roll = chance.source.next()
      for (const [kind, weight] of Object.entries(weights) as Array<[FaultKind, number | undefined]>) {
        roll -= weight ?? 0
        if (roll < 0) return this.make(api, kind, chance)
      }
    }
    return undefined
  }

  private make(api: Api, kind: FaultKind, chance: RandomFaults): Fault {
    const below = (n: number) => Math.floor(chance.source.next() * n)
    switch (kind) {
      case "slowRequest":
      case "slowAnswer":
      case "servedLate":
        return { kind, ms: 1 + below(chance.maxDelay ?? 1000) }
      case "code": {
        const codes = chance.codes?.[api] ?? retriable[api]
        return { kind, code: codes[below(codes.length)]! }
      }
      case "smallChunk":
        return { kind, records: 1 + below(chance.maxSmallChunk ?? 10) }
      default:
        return { kind }
    }
  }
}
