/**
 * What must hold at each step, checked from outside of the engine: on what sessions and handlers were told, on what they
 * answered, and on what the broker stored. A violation ends the history; it is kept, not thrown, because most of this is
 * called from inside of the engine, which would take a throw for a defect of its own.
 */
import type {
  CommitEntry,
  CommitOutcome,
  EpochPartition,
  Revoking,
  Signal
} from "@concurrent-kafka/core/ConsumerSession"
import type { CommitRecord } from "@concurrent-kafka/testing/MemoryKafka"
import type { Trace } from "./trace.ts"
import { keyOf, type LogTruth, type Rec, type Truth } from "./truth.ts"
import type { Realm, World } from "./world.ts"

export interface Violation {
  readonly invariant: string
  readonly detail: string
  readonly at: number
}

/** One attempt to handle a record, as the handler itself sees it. */
export interface Attempt {
  readonly owner: Owner
  readonly rec: Rec
  readonly epoch: EpochTruth | undefined
  readonly startedAt: number
  readonly frozenBefore: number
  /** it does not end when it is interrupted */
  stubborn: boolean
  acked: boolean
  /** its outcome counts later than its end */
  deferred: boolean
  /** interrupted itself */
  self: boolean
  ended: boolean
}

export interface EpochTruth extends EpochPartition {
  readonly owner: Owner
  readonly key: string
  /** the log that it reads, as far as anybody can know */
  log: LogTruth
  state: "given" | "open" | "revoking" | "suspended" | "ended"
  exact: boolean
  /** what the assignment said; nothing for an epoch that was reopened */
  committed: bigint | undefined
  readonly topicCommitted: boolean
  readonly reopened: boolean
  begunAt: bigint | undefined
  position: bigint
  sent: bigint | undefined
  stored: bigint | undefined
  readonly delivered: Array<Rec>
  readonly indexOf: Map<Rec, number>
  /** all of `delivered` before this index are done */
  checked: number
  /** done beyond doubt, and when: the engine must know it too */
  readonly certain: Map<Rec, number>
  /** all of `delivered` before this index are done beyond doubt */
  prefix: number
  /** all of `delivered` before this index are done, maybe */
  doneFrom: number
  /** the user paused it */
  paused: boolean
  newestStarted: bigint
  endedAt: number
  /** where the user moves it */
  soughtTo: bigint | undefined
  /** it may end by itself, without a signal */
  mayEnd: string | undefined
}

interface Outstanding {
  readonly signal: Revoking
  readonly seenAt: number
  readonly frozenBefore: number
  /** something runs that is worth waiting for, or anything at all */
  readonly waitedFor: boolean
  readonly running: boolean
}

/** A process, as the checker sees it. */
export class Owner {
  readonly name: string
  readonly clientId: string
  readonly realm: Realm
  readonly lanes: boolean
  readonly filters: boolean
  readonly startsLatest: boolean
  readonly timeout: number | undefined
  readonly maxUncommitted: number
  /** how long a revoke without a hold may take */
  readonly flushTime: number
  readonly interruptGrace: number
  readonly revokeDrain: number
  readonly shutdownTimeout: number
  /** its policy may take time */
  readonly decidesLate: boolean
  limit: number
  readonly epochs = new Map<number, EpochTruth>()
  /** what the newest assignment said of each partition */
  readonly committed = new Map<string, bigint | undefined>()
  readonly running = new Set<Attempt>()
  readonly revoking = new Set<Outstanding>()
  /** why it may interrupt everything and end */
  closing: string | undefined = undefined
  left = true
  paused = false
  /** called when it joins the group */
  joins: () => void = () => {}
  /** its user moves a partition there, just now */
  seeksTo: bigint | undefined = undefined
  /** when the policy said stop */
  stoppedAt: number | undefined = undefined
  /** when an epoch ended, or may have */
  lastEnd = 0
  /** when a commit did not go through */
  refusedAt = 0
  /** the client has given up for good */
  sessionEnded = false
  /** how many of each outcome the engine must have counted: at least, and at most */
  readonly handled = { least: 0, most: 0 }
  readonly skipped = { least: 0, most: 0 }
  readonly filtered = { least: 0, most: 0 }

  constructor(options: {
    readonly name: string
    readonly clientId: string
    readonly realm: Realm
    readonly lanes: boolean
    readonly filters: boolean
    readonly startsLatest: boolean
    readonly limit: number
    readonly timeout: number | undefined
    readonly maxUncommitted: number
    readonly flushTime: number
    readonly interruptGrace: number
    readonly revokeDrain: number
    readonly shutdownTimeout: number
    readonly decidesLate: boolean
  }) {
    this.name = options.name
    this.clientId = options.clientId
    this.realm = options.realm
    this.lanes = options.lanes
    this.filters = options.filters
    this.startsLatest = options.startsLatest
    this.limit = options.limit
    this.timeout = options.timeout
    this.maxUncommitted = options.maxUncommitted
    this.flushTime = options.flushTime
    this.interruptGrace = options.interruptGrace
    this.revokeDrain = options.revokeDrain
    this.shutdownTimeout = options.shutdownTimeout
    this.decidesLate = options.decidesLate
  }
}

export class Checker {
  readonly world: World
  readonly trace: Trace
  readonly truth: Truth
  readonly violations: Array<Violation> = []
  /** commits go through since this time, so that what is done must arrive */
  calmSince = 0
  /** when a fault met a request */
  lastFault: () => number = () => 0
  /** how long a commit is on its way at most, while it is calm */
  readonly commitTime: number
  private readonly epochs = new Map<number, EpochTruth>()
  /** for each partition and offset that the group has committed: in which term */
  private readonly stores = new Map<string, Map<bigint, number>>()
  private readonly tools = new Map<string, bigint>()
  /** what was sent last, by client and partition */
  private readonly sends = new Map<string, Array<{ readonly epoch: EpochTruth; readonly offset: bigint }>>()
  private readonly logEnds: (
    topic: string,
    partition: number
  ) => { readonly start: bigint; readonly end: bigint } | undefined

  constructor(
    world: World,
    trace: Trace,
    truth: Truth,
    commitTime: number,
    logEnds: (topic: string, partition: number) => { readonly start: bigint; readonly end: bigint } | undefined
  ) {
    this.world = world
    this.commitTime = commitTime
    this.trace = trace
    this.truth = truth
    this.logEnds = logEnds
  }

  violation(invariant: string, detail: string): void {
    this.trace.log("CHECK", `${invariant} is broken: ${detail}`)
    this.violations.push({ invariant, detail, at: this.world.now })
  }

  // ------------------------------------------------------------------ signals

  /** The engine looks at this signal now. */
  seen(owner: Owner, signal: Signal): void {
    switch (signal._tag) {
      case "Assigned": {
        const kept = new Set<EpochTruth>()
        for (const p of signal.all) {
          owner.committed.set(keyOf(p), p.committed?.offset)
          let epoch = owner.epochs.get(p.epoch)
          if (epoch === undefined) epoch = this.open(owner, p, p.committed?.offset, p.topicCommitted, false)
          else if (epoch.state === "suspended" || (epoch.state === "revoking" && !epoch.exact)) {
            epoch.state = epoch.begunAt === undefined ? "given" : "open"
          }
          // its own request may have arrived although nobody heard of it
          if (epoch.begunAt === undefined && !epoch.reopened) epoch.committed = p.committed?.offset
          kept.add(epoch)
        }
        for (const epoch of owner.epochs.values()) if (!kept.has(epoch)) this.end(epoch)
        return
      }
      case "Revoking": {
        const { now } = this.world
        const epochs = new Set(signal.partitions.map((p) => p.epoch))
        const running = [...owner.running].filter((one) => one.epoch !== undefined && epochs.has(one.epoch.epoch))
        owner.revoking.add({
          signal,
          seenAt: now,
          frozenBefore: owner.realm.frozenFor,
          waitedFor: running.some((one) => now - one.startedAt <= owner.revokeDrain),
          running: running.length > 0
        })
        for (const p of signal.partitions) {
          const epoch = owner.epochs.get(p.epoch)
          if (epoch === undefined || epoch.state === "ended" || epoch.state === "suspended") continue
          epoch.state = "revoking"
          epoch.exact = signal.exact
        }
        return
      }
      case "Lost":
        for (const p of signal.partitions) this.end(owner.epochs.get(p.epoch))
        return
      case "Gone":
        this.end(owner.epochs.get(signal.epoch))
        return
      case "OutOfRange": {
        const epoch = owner.epochs.get(signal.epoch)
        if (epoch === undefined) return
        if (signal.position >= signal.start) epoch.mayEnd = "beyond the end"
        else if (epoch.position < signal.start) epoch.position = signal.start
        return
      }
      case "Chunk":
        return this.chunk(owner, signal)
      case "Connection":
    }
  }

  acknowledged(owner: Owner, signal: Revoking): void {
    for (const one of owner.revoking) {
      if (one.signal !== signal) continue
      owner.revoking.delete(one)
      this.inTime(owner, one)
    }
    for (const p of signal.partitions) {
      const epoch = owner.epochs.get(p.epoch)
      if (epoch === undefined || epoch.state !== "revoking") continue
      if (signal.hold > 0) this.flushed(epoch, "given up")
      if (signal.exact) this.end(epoch)
      // announced again while it is still being drained: that is answered at once, and the drain goes on
      else if (![...owner.revoking].some((one) => one.signal.partitions.some((q) => q.epoch === p.epoch))) {
        epoch.state = "suspended"
      }
    }
  }

  private open(
    owner: Owner,
    p: EpochPartition,
    committed: bigint | undefined,
    topicCommitted: boolean,
    reopened: boolean
  ): EpochTruth {
    const key = keyOf(p)
    const epoch: EpochTruth = {
      topic: p.topic,
      partition: p.partition,
      epoch: p.epoch,
      owner,
      key,
      log: this.truth.logs.get(key)!,
      state: "given",
      exact: false,
      committed,
      topicCommitted,
      reopened,
      begunAt: undefined,
      position: -1n,
      sent: undefined,
      stored: undefined,
      delivered: [],
      indexOf: new Map(),
      checked: 0,
      certain: new Map(),
      prefix: 0,
      doneFrom: 0,
      paused: false,
      newestStarted: -1n,
      endedAt: 0,
      soughtTo: undefined,
      mayEnd: undefined
    }
    owner.epochs.set(p.epoch, epoch)
    this.epochs.set(p.epoch, epoch)
    return epoch
  }

  private end(epoch: EpochTruth | undefined): void {
    if (epoch === undefined || epoch.state === "ended") return
    epoch.state = "ended"
    epoch.endedAt = this.world.now
    epoch.owner.lastEnd = this.world.now
  }

  private chunk(
    owner: Owner,
    chunk: {
      readonly epoch: number
      readonly nextOffset: bigint
      readonly records: ReadonlyArray<{ value: Uint8Array | null }>
    }
  ): void {
    const epoch = owner.epochs.get(chunk.epoch)
    if (epoch === undefined || epoch.state === "ended") return
    const log = this.truth.logs.get(epoch.key)!
    const recs = chunk.records.map((record) => this.recordOf(record))
    // read before the log was truncated, and on its way since
    const stale = recs.some((rec) => log.records[log.indexOf(rec.offset)] !== rec)
    if (log !== epoch.log && !stale) {
      // it reads on in a log that was truncated, and nobody could tell
      log.excuse(epoch.position, "read on over a truncation")
      epoch.log = log
    }
    const given = new Set(recs)
    for (let i = stale ? log.records.length : log.indexOf(epoch.position); i < log.records.length; i++) {
      const rec = log.records[i]!
      if (rec.offset >= chunk.nextOffset) break
      if (!given.has(rec) && this.truth.owed(log, rec)) {
        this.violation("delivery", `${epoch.key}@${rec.offset} is not in the chunk to ${chunk.nextOffset}`)
      }
    }
    for (const rec of recs) {
      epoch.indexOf.set(rec, epoch.delivered.push(rec) - 1)
      if (rec.filter !== "unwanted" || !owner.filters) continue
      owner.filtered.most++
      if (epoch.state !== "open" || owner.closing !== undefined || epoch.mayEnd !== undefined) continue
      owner.filtered.least++
      epoch.certain.set(rec, this.world.now)
    }
    epoch.position = chunk.nextOffset
  }

  recordOf(record: { readonly value: Uint8Array | null }): Rec {
    return this.truth.byId[Number(new TextDecoder().decode(record.value!))]!
  }

  // ------------------------------------------------------------------ what the engine tells the client

  began(owner: Owner, start: EpochPartition & { readonly offset: bigint }): void {
    const epoch = owner.epochs.get(start.epoch)
    const where = `${keyOf(start)}#${start.epoch} at ${start.offset}`
    if (epoch === undefined || epoch.state === "ended")
      return this.violation("I2", `begin of an epoch that is over, ${where}`)
    if (epoch.begunAt !== undefined) return this.violation("I2", `begun twice, ${where}`)
    epoch.begunAt = start.offset
    epoch.position = start.offset
    if (epoch.state === "given") epoch.state = "open"
    const log = this.truth.logs.get(epoch.key)!
    epoch.log = log
    if (epoch.reopened) {
      if (epoch.soughtTo !== undefined && epoch.soughtTo !== start.offset) {
        this.violation("P22", `a partition that was moved to ${epoch.soughtTo} begins elsewhere, ${where}`)
      }
      // one that the engine had given up on an answer of the broker, and the client holds on, goes on where the group is
      const goesOn = owner.committed.get(epoch.key) === start.offset
      if (epoch.stored !== start.offset && !goesOn) {
        this.violation("C2", `a reopened epoch begins where nothing was committed, ${where}`)
      }
      return
    }
    if (epoch.committed !== undefined) {
      if (epoch.committed !== start.offset)
        this.violation("I3", `begins not at the committed ${epoch.committed}, ${where}`)
      const term = this.stores.get(epoch.key)?.get(start.offset)
      if (term !== log.term) log.excuse(start.offset, "committed for a log before this one, or by somebody else")
      return
    }
    if (epoch.stored !== start.offset) this.violation("C2", `the start is not committed before it begins, ${where}`)
  }

  reopened(owner: Owner, old: EpochPartition, next: EpochPartition): void {
    const before = owner.epochs.get(old.epoch)
    if (before !== undefined && before.mayEnd === undefined && before.state !== "ended") {
      this.violation("P22", `${keyOf(old)}#${old.epoch} is reopened and nobody asked for it`)
    }
    this.end(before)
    this.open(owner, next, undefined, false, true).soughtTo = owner.seeksTo
  }

  committing(owner: Owner, entries: ReadonlyArray<CommitEntry>): void {
    for (const entry of entries) {
      const where = `${keyOf(entry)}#${entry.epoch} = ${entry.offset}`
      const epoch = owner.epochs.get(entry.epoch)
      if (owner.left) this.violation("I2", `a commit after the group was left, ${where}`)
      if (epoch === undefined) {
        this.violation("I2", `a commit of an unknown epoch, ${where}`)
        continue
      }
      if (epoch.state === "ended" || epoch.state === "suspended") {
        this.violation("I2", `a commit of an epoch that is ${epoch.state}, ${where}`)
      }
      if (epoch.sent !== undefined && entry.offset < epoch.sent)
        this.violation("I2", `back from ${epoch.sent}, ${where}`)
      epoch.sent = entry.offset
      if (epoch.begunAt === undefined) this.startSent(epoch, entry.offset)
      else if (entry.offset < epoch.begunAt) this.violation("I2", `before its beginning ${epoch.begunAt}, ${where}`)
      else if (entry.offset > epoch.position)
        this.violation("I1", `beyond what was delivered (${epoch.position}), ${where}`)
      while (epoch.checked < epoch.delivered.length && epoch.delivered[epoch.checked]!.offset < entry.offset) {
        const rec = epoch.delivered[epoch.checked]!
        if (!rec.doneIn.has(epoch.epoch) && !(rec.filter === "unwanted" && owner.filters)) {
          this.violation("I1", `passes ${epoch.key}@${rec.offset}, which is not done in this epoch, ${where}`)
          break
        }
        epoch.checked++
      }
      const sends = this.sends.get(`${owner.clientId} ${epoch.key}`) ?? []
      if (sends.push({ epoch, offset: entry.offset }) > 200) sends.splice(0, 100)
      this.sends.set(`${owner.clientId} ${epoch.key}`, sends)
    }
  }

  /** Where an epoch without a committed offset is to start. */
  private startSent(epoch: EpochTruth, offset: bigint): void {
    const ends = this.logEnds(epoch.topic, epoch.partition)
    if (ends === undefined) return
    const log = this.truth.logs.get(epoch.key)!
    // retention may cut into a transaction that is open: then the log begins behind what a reader can see
    if (offset > ends.end && offset > ends.start && log === epoch.log && !epoch.reopened)
      this.violation("C2", `starts ${epoch.key} behind the end, at ${offset}`)
    if (offset > ends.start) {
      const meant = epoch.reopened || (epoch.owner.startsLatest && !epoch.topicCommitted)
      if (!meant && log === epoch.log) {
        this.violation("C2", `starts ${epoch.key} at ${offset} instead of the log's beginning ${ends.start}`)
      }
      log.excuse(offset, "the start that was asked for")
    }
  }

  outcomes(owner: Owner, outcomes: ReadonlyArray<CommitOutcome>): void {
    for (const outcome of outcomes) {
      const epoch = owner.epochs.get(outcome.epoch)
      // also without any fault: the group moves on while a commit is on its way
      if (outcome.outcome !== "committed") owner.refusedAt = this.world.now
      if (outcome.outcome === "stale" || outcome.outcome === "rejected") owner.lastEnd = this.world.now
      if (epoch === undefined) continue
      if (outcome.outcome === "stale" && outcome.code !== "EPOCH") epoch.mayEnd = outcome.code
      if (outcome.outcome === "rejected" && outcome.code === "UNKNOWN_TOPIC_OR_PARTITION") epoch.mayEnd = outcome.code
      if (outcome.outcome === "stale" && outcome.code === "FENCED_INSTANCE_ID") owner.closing = outcome.code
      if (
        outcome.outcome === "rejected" &&
        (outcome.code === "NOT_AUTHORIZED" || outcome.code === "INVALID_GROUP_ID")
      ) {
        owner.closing = outcome.code
      }
    }
  }

  /** The broker has stored it. */
  stored(commit: CommitRecord): void {
    for (const entry of commit.entries) {
      if (entry.code !== undefined) continue
      const key = keyOf(entry)
      const log = this.truth.logs.get(key)
      const send = this.sends.get(`${commit.clientId} ${key}`)?.findLast((one) => one.offset === entry.offset)
      if (log === undefined) continue
      if (send === undefined) {
        this.violation(
          "C1",
          `the broker has ${key} = ${entry.offset} of ${commit.clientId}, which the engine did not send`
        )
        continue
      }
      const { epoch } = send
      epoch.stored = entry.offset
      this.tools.delete(key)
      let stores = this.stores.get(key)
      if (stores === undefined) this.stores.set(key, (stores = new Map()))
      stores.set(entry.offset, epoch.log.term)
      if (epoch.log !== log) {
        log.excuse(entry.offset, "committed by who read the log before this one")
        continue
      }
      const missing = this.truth.missingBelow(log, entry.offset)
      if (missing !== undefined)
        this.violation("I1", `${key} = ${entry.offset} is stored and ${missing.offset} is not done`)
    }
  }

  /** Somebody else has set the group's offset. */
  setByTool(log: LogTruth, offset: bigint): void {
    this.stores.get(keyOf(log))?.delete(offset)
    this.tools.set(keyOf(log), offset)
  }

  /**
   * All is done, and then somebody else has set the offset: a tool, or a member that still reads the topic of this name that was there
   * before. Nobody can know of it before the next rebalance.
   */
  isForeign(log: LogTruth, committed: bigint | undefined): boolean {
    if (committed === undefined) return false
    const key = keyOf(log)
    if (this.tools.get(key) !== committed && this.stores.get(key)?.get(committed) === log.term) return false
    return this.truth.missing().every((rec) => keyOf(rec) !== key)
  }

  /** A log was truncated, and has grown again to where its reader is before he looked: nobody can tell. */
  unnoticed(owner: Owner): void {
    for (const epoch of owner.epochs.values()) {
      const log = this.truth.logs.get(epoch.key)
      if (epoch.state === "ended" || log === undefined || log.gone || log === epoch.log) continue
      const ends = this.logEnds(epoch.topic, epoch.partition)
      if (ends !== undefined && epoch.position <= ends.end) log.excuse(epoch.position, "truncated under its reader")
    }
  }

  leaving(owner: Owner): void {
    for (const epoch of owner.epochs.values()) {
      if (epoch.state === "open" || epoch.state === "revoking") this.flushed(epoch, "left")
      this.end(epoch)
    }
    owner.left = true
  }

  /**
   * What was done in time must be in Kafka when a partition is given up in order. What is done while the flush is under way
   * may come too late for it.
   */
  private flushed(epoch: EpochTruth, how: string): void {
    if (!this.isCalm(epoch.owner) || epoch.begunAt === undefined || epoch.mayEnd !== undefined) return
    if (epoch.log !== this.truth.logs.get(epoch.key)) return
    const until = this.world.now - 3 * this.commitTime - 5
    const { delivered } = epoch
    while (epoch.prefix < delivered.length) {
      const rec = delivered[epoch.prefix]!
      const at = epoch.certain.get(rec)
      if (at === undefined || at > until) break
      epoch.prefix++
    }
    if (epoch.prefix === 0) return
    const last = delivered[epoch.prefix - 1]!
    if ((epoch.stored ?? epoch.begunAt) <= last.offset) {
      this.violation(
        "I8",
        `${epoch.key}#${epoch.epoch} is ${how} at ${epoch.stored}, and ${last.offset} was done before`
      )
    }
  }

  /** A revoke does not wait longer than for what is worth it (P8, P9). */
  private inTime(owner: Owner, { frozenBefore, running, seenAt, signal, waitedFor }: Outstanding): void {
    if (signal.hold <= 0 || waitedFor || owner.decidesLate || owner.closing !== undefined || !this.isCalm(owner)) return
    const took = owner.realm.awakeSince(seenAt, frozenBefore, this.world.now)
    // finalizers and commits under way, and those of the flush
    const most = 150 + 4 * this.commitTime + (signal.exact && running ? owner.interruptGrace : 0)
    if (took > most) this.violation("P9", `${owner.name} held a revoke for ${took} ms and had nothing to wait for`)
  }

  /** Nothing that met its requests can have held up a commit. */
  private isCalm(owner: Owner): boolean {
    return this.world.now >= Math.max(this.calmSince, this.lastFault() + 30_000, owner.refusedAt + 30_000)
  }

  /** Records of epochs that are over may still be held. */
  isEnding(owner: Owner): boolean {
    if (owner.closing !== undefined || this.world.now < owner.lastEnd + owner.interruptGrace + 5_000) return true
    for (const epoch of owner.epochs.values()) if (epoch.state !== "ended" && epoch.mayEnd !== undefined) return true
    return false
  }

  /** Everything that a clock decides. */
  watch(owner: Owner): void {
    this.watchAttempts(owner)
    const { stoppedAt } = owner
    if (stoppedAt !== undefined && this.world.now - stoppedAt > owner.shutdownTimeout + 60_000) {
      owner.stoppedAt = undefined
      this.violation("P26", `${owner.name} was told to stop and runs on`)
    }
    for (const { frozenBefore, seenAt, signal } of owner.revoking) {
      const took = owner.realm.awakeSince(seenAt, frozenBefore, this.world.now)
      if (took > Math.max(signal.hold, owner.flushTime) + 50) {
        owner.revoking.clear()
        this.violation("answer", `${owner.name} did not answer a revoke of ${signal.partitions.length} for ${took} ms`)
        return
      }
    }
  }

  /** Who can be interrupted does not run on after his time, or that of his epoch. */
  private watchAttempts(owner: Owner): void {
    for (const attempt of owner.running) {
      // an attempt that is acknowledged has no time limit any more
      if (attempt.stubborn || attempt.acked) continue
      const { epoch, rec, startedAt } = attempt
      const where = `${keyOf(rec)}@${rec.offset}#${epoch?.epoch}`
      if (epoch?.state === "ended") {
        attempt.stubborn = true
        this.violation("P15", `${where} runs on after its epoch`)
      } else if (owner.timeout !== undefined && this.world.now - startedAt > owner.timeout + 5) {
        attempt.stubborn = true
        this.violation("R8", `${where} runs for ${this.world.now - startedAt} ms, and its limit is ${owner.timeout}`)
      }
    }
  }

  /** I10: everything that is done is counted under one outcome. */
  counted(owner: Owner, outcomes: Readonly<Record<"handled" | "skipped" | "filtered", number>>): void {
    for (const outcome of ["handled", "skipped", "filtered"] as const) {
      const { least, most } = owner[outcome]
      const told = outcomes[outcome]
      if (told < least || told > most) {
        this.violation("I10", `${owner.name} tells of ${told} ${outcome}; there were ${least} to ${most}`)
      }
    }
  }

  // ------------------------------------------------------------------ attempts

  starts(owner: Owner, rec: Rec, epochNumber: number): Attempt {
    const epoch = owner.epochs.get(epochNumber)
    const where = `${keyOf(rec)}@${rec.offset}#${epochNumber}`
    rec.attempts++
    const attempt: Attempt = {
      owner,
      rec,
      epoch,
      startedAt: this.world.now,
      frozenBefore: owner.realm.frozenFor,
      stubborn: false,
      acked: false,
      deferred: false,
      self: false,
      ended: false
    }
    if (owner.realm.state === "dead") return attempt
    if (owner.running.size >= owner.limit)
      this.violation("I5", `${where} starts beside ${owner.running.size} of ${owner.limit}`)
    if (epoch === undefined) this.violation("I3", `${where} starts in an unknown epoch`)
    else {
      if (epoch.state !== "open") this.violation("P5", `${where} starts in an epoch that is ${epoch.state}`)
      if (rec.doneIn.has(epochNumber)) this.violation("I3", `${where} starts and is done already`)
      if (rec.filter === "unwanted" && owner.filters) this.violation("I10", `${where} starts and is not wanted`)
      if (epoch.paused || owner.paused) this.violation("C32", `${where} starts and is paused`)
      this.near(owner, epoch, rec, where)
    }
    for (const other of owner.running) {
      const same = other.rec.topic === rec.topic && other.rec.partition === rec.partition
      if (same && owner.lanes) this.violation("I4", `${where} starts beside ${other.rec.offset}#${other.epoch?.epoch}`)
      if (other.rec === rec && other.epoch === epoch) this.violation("I4", `${where} starts twice at once`)
    }
    if (epoch !== undefined && owner.lanes) {
      if (rec.offset <= epoch.newestStarted) this.violation("I4", `${where} starts after ${epoch.newestStarted}`)
      epoch.newestStarted = rec.offset
    }
    owner.running.add(attempt)
    return attempt
  }

  ends(attempt: Attempt, how: "success" | "failure" | "interrupted"): void {
    if (attempt.ended) return
    attempt.ended = true
    const { epoch, owner, rec } = attempt
    owner.running.delete(attempt)
    if (owner.realm.state === "dead") return
    if (how === "success" && !attempt.deferred) this.done(attempt)
    if (how !== "interrupted" || attempt.self || epoch === undefined || owner.closing !== undefined) return
    const late = this.isLate(attempt)
    const goes = epoch.state === "ended" || epoch.mayEnd !== undefined || (epoch.state === "revoking" && epoch.exact)
    if (!late && !goes) {
      this.violation(
        "I11",
        `${keyOf(rec)}@${rec.offset}#${epoch.epoch} was interrupted, and its epoch is ${epoch.state}`
      )
    }
  }

  /** The handler has succeeded, and its Scope is closed. */
  done(attempt: Attempt): void {
    const { deferred, epoch, owner, rec } = attempt
    if (epoch === undefined || attempt.acked) return
    const undisturbed = epoch.state === "open" && owner.closing === undefined && epoch.mayEnd === undefined
    this.isDone(owner, epoch, rec, owner.handled, !deferred || (undisturbed && !this.isLate(attempt)))
  }

  /** `record.ack`, which nobody hears whose epoch is over or whose time was. */
  acknowledges(attempt: Attempt): void {
    const { epoch, owner, rec } = attempt
    if (epoch === undefined || attempt.acked) return
    attempt.acked = true
    const undisturbed = epoch.state === "open" && owner.closing === undefined && epoch.mayEnd === undefined
    this.isDone(owner, epoch, rec, owner.handled, undisturbed && !this.isLate(attempt))
  }

  /** The policy says skip. */
  skips(owner: Owner, rec: Rec, epochNumber: number): void {
    const epoch = owner.epochs.get(epochNumber)
    if (epoch !== undefined) this.isDone(owner, epoch, rec, owner.skipped, true)
  }

  /** The policy is asked. */
  asks(owner: Owner, rec: Rec, epochNumber: number): void {
    const epoch = owner.epochs.get(epochNumber)
    const where = `${keyOf(rec)}@${rec.offset}#${epochNumber}`
    if (owner.realm.state === "dead" || epoch === undefined) return
    if (epoch.state === "ended") this.violation("P28", `the policy is asked about ${where}, whose epoch is over`)
    if (epoch.certain.has(rec)) this.violation("R21", `the policy is asked about ${where}, which is done`)
  }

  private isDone(
    owner: Owner,
    epoch: EpochTruth,
    rec: Rec,
    counter: { least: number; most: number },
    certain: boolean
  ): void {
    if (owner.realm.state === "dead" || epoch.state === "ended") return
    rec.done = true
    rec.doneIn.add(epoch.epoch)
    counter.most++
    if (!certain) return
    counter.least++
    epoch.certain.set(rec, this.world.now)
  }

  private isLate({ owner, startedAt }: Attempt): boolean {
    return owner.timeout !== undefined && this.world.now - startedAt >= owner.timeout
  }

  /** How far in front of the oldest record that is not done it starts. */
  private near(owner: Owner, epoch: EpochTruth, rec: Rec, where: string): void {
    const { delivered, doneFrom } = epoch
    let oldest = doneFrom
    while (oldest < delivered.length) {
      const one = delivered[oldest]!
      if (!one.doneIn.has(epoch.epoch) && !(one.filter === "unwanted" && owner.filters)) break
      oldest++
    }
    epoch.doneFrom = oldest
    const distance = epoch.indexOf.get(rec)! - oldest
    if (distance >= owner.maxUncommitted) {
      this.violation("maxUncommitted", `${where} starts ${distance} records in front of the oldest that is not done`)
    }
  }
}
