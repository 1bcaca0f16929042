/**
 * What somebody has said by which a topic may be another one of its name than the one that is held. Pure.
 *
 * Fetches and commits name a topic, and brokers learn of everything one after another. So a claim of anybody is a question to the coordinator,
 * which takes the commits; and because that one may be behind, too, its word against a claim counts when it was asked for after the claim, for a
 * second, and more than twice. Until then nothing of the topic is fetched or committed.
 *
 * A claim that was denied may come again with each answer of a broker that is cut off from the others: it is no doubt then. It is remembered as
 * long as it is repeated, and asked about now and then.
 *
 * Invariants, with their tests in `test/doubts.test.ts`:
 * - a claim is a doubt until it was denied three times, over a second, in answers to questions that were asked after it;
 * - a denied one is none, however often it is repeated; but a fetch that meets no such topic is a claim of now each time;
 * - no claim speaks against a topic that has the id that it claims.
 */
import type { TopicMetadata } from "../Broker.ts"
import { longEnough, oftenEnough } from "./absence.ts"
import type { Owned } from "./state.ts"

/** `unknown`: a fetch was answered so. `absent`, `another`, `cut`: metadata say so. */
export type Claim = { readonly kind: "unknown" | "absent" | "cut" } | { readonly kind: "another"; readonly id: string }

/** What speaks against what is held, in metadata. */
export const claimOf = (found: TopicMetadata, held: ReadonlyArray<Owned>): Claim | undefined => {
  if (held.length === 0) return undefined
  if (found.code === "UNKNOWN_TOPIC_OR_PARTITION") return { kind: "absent" }
  if (found.code !== "NONE") return undefined
  if (held.some((owned) => isAnotherTopic(owned, found.id))) return { kind: "another", id: found.id! }
  return held.some((owned) => isCut(owned, found)) ? { kind: "cut" } : undefined
}

/** Without topic ids one that was created again cannot be told. */
export const isAnotherTopic = ({ topicId }: Pick<Owned, "topicId">, id: string | undefined): boolean =>
  topicId !== undefined && id !== undefined && id !== topicId

/**
 * It has fewer partitions than it had, and no id to tell it by. Partitions do not go by themselves: said once it may be old, said for long
 * (`Absence`) it is another topic.
 */
export const isCut = ({ partition, topicId }: Owned, { id, leaders }: TopicMetadata): boolean =>
  !leaders.has(partition) && (topicId === undefined || id === undefined)

/** milliseconds after which what nobody has repeated is nobody's claim any more */
const forgotten = 60_000

interface Said {
  readonly claim: Claim
  since: number
  saidAt: number
  denials: number
  denied: boolean
}

const keyOf = (claim: Claim): string => (claim.kind === "another" ? `another ${claim.id}` : claim.kind)

export class Doubts {
  readonly #topics = new Map<string, Map<string, Said>>()

  /** Returns whether the coordinator has to be asked for it now. */
  claim(topic: string, claim: Claim, now: number): boolean {
    const all = this.#topics.get(topic) ?? new Map<string, Said>()
    this.#topics.set(topic, all)
    const before = all.get(keyOf(claim))
    if (before !== undefined && claim.kind !== "unknown") {
      before.saidAt = now
      return !before.denied
    }
    all.set(keyOf(claim), { claim, since: now, saidAt: now, denials: 0, denied: false })
    return true
  }

  /** The coordinator, which was asked at `askedAt`, has said that the topic is the one that it was. */
  deny(topic: string, askedAt: number, now: number): void {
    for (const said of this.#topics.get(topic)?.values() ?? []) {
      if (said.since > askedAt) continue
      said.denials++
      if (said.denials >= oftenEnough && now - said.since >= longEnough) said.denied = true
    }
  }

  /** Whether it may be another one. `topicId` is that of what is held. */
  has(topic: string, topicId?: string): boolean {
    for (const { claim, denied } of this.#topics.get(topic)?.values() ?? []) {
      if (!denied && !(claim.kind === "another" && claim.id === topicId)) return true
    }
    return false
  }

  /** Whether there are any, and whether some were denied that may be right all the same. */
  get state(): "none" | "denied" | "open" {
    let state: "none" | "denied" = "none"
    for (const topic of this.#topics.keys()) {
      if (this.has(topic)) return "open"
      state = "denied"
    }
    return state
  }

  /** It is known what it is. */
  forget(topic: string): void {
    this.#topics.delete(topic)
  }

  /** Only these are of interest, and of what was denied only what was said lately. */
  keep(topics: ReadonlySet<string>, now: number): void {
    for (const [topic, all] of this.#topics) {
      for (const [key, { denied, saidAt }] of all) if (denied && now - saidAt > forgotten) all.delete(key)
      if (all.size === 0 || !topics.has(topic)) this.#topics.delete(topic)
    }
  }

  clear(): void {
    this.#topics.clear()
  }
}
