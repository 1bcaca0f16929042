import { OffsetMap } from "@concurrent-kafka/core"
import { assert, describe, it } from "@effect/vitest"
import { duplicates, violations } from "./checks.ts"
import { readFacts } from "./facts.ts"
import * as Ledger from "./ledger.ts"

const topic = "orders"

/**
 * One partition of ten records, all of one key but for the odd ones. Process 1 handles 0 to 5 and is told to end at 500; process 2
 * begins at 600 with what was committed, and handles the rest. Times are milliseconds.
 */
const history = () => {
  const db = Ledger.openRun(":memory:")
  const handling = (
    pid: number,
    offset: number,
    started: number,
    finished: number | null,
    outcome: string | null = "finished",
    key = offset % 2 === 0 ? "even" : `odd ${offset}`
  ) =>
    db
      .prepare(
        "INSERT INTO handlings (pid, topic, log, partition, offset, record, key, epoch, generation, attempt, started, finished, outcome) " +
          "VALUES (?,?,'a',0,?,?,?,?,1,1,?,?,?)"
      )
      .run(pid, topic, offset, offset, key, pid, started, finished, outcome)
  const epoch = (pid: number, begun: number, offset: number) =>
    db.prepare("INSERT INTO epochs VALUES (?,?,0,?,1,?,?)").run(pid, topic, pid, offset, begun)
  const commit = (pid: number, offset: number, sent: number, outcome = "committed", metadata = "") =>
    db
      .prepare(
        "INSERT INTO commits (pid, topic, partition, epoch, generation, offset, metadata, sent, answered, outcome) VALUES (?,?,0,?,1,?,?,?,?,?)"
      )
      .run(pid, topic, pid, offset, metadata, sent, sent + 5, outcome)
  const sample = (offset: number, answered: number, metadata = "") =>
    db.prepare("INSERT INTO samples VALUES ('a',0,?,?,?)").run(offset, metadata, answered)
  const rebalance = (pid: number, at: number, kind: string) =>
    db.prepare("INSERT INTO rebalances VALUES (?,?,?,1,0,0)").run(pid, at, kind)
  const signal = (pid: number, name: string, at: number) =>
    db.prepare("INSERT INTO signals VALUES (?,?,?)").run(pid, name, at)
  const run = (sql: string) => db.exec(sql)
  const wrong = (orderly = true) => violations(readFacts(db), topic, orderly)
  const count = (orderly = true) => {
    const { bound, twice } = duplicates(readFacts(db), orderly)
    return { bound, twice }
  }

  epoch(1, 100, 0)
  for (let offset = 0; offset < 6; offset++) handling(1, offset, 110 + offset * 20, 125 + offset * 20)
  commit(1, 3, 180)
  signal(1, "SIGTERM", 500)
  commit(1, 6, 510)
  epoch(2, 600, 6)
  for (let offset = 6; offset < 10; offset++) handling(2, offset, 510 + offset * 20, 525 + offset * 20)
  commit(2, 10, 900)
  sample(3, 190)
  sample(6, 520)
  sample(10, 910)
  db.exec("INSERT INTO ends VALUES ('a', 0, 10)")
  for (let record = 0; record < 10; record++)
    db.prepare("INSERT INTO produced VALUES (?,'a','k','work',50)").run(record)
  return { db, handling, epoch, commit, sample, rebalance, signal, run, wrong, count }
}

const says = (sentences: ReadonlyArray<string>, ...begins: ReadonlyArray<string>) =>
  assert.deepStrictEqual(
    sentences.map((sentence, i) => sentence.slice(0, begins[i]?.length ?? 60)),
    begins,
    sentences.join("\n")
  )

const mapOf = (base: number, ...runs: ReadonlyArray<number>) =>
  OffsetMap.encode({ topic, partition: 0, base: BigInt(base), runs, limit: 4096 }).metadata

describe("the checks of a run", () => {
  it("have nothing to say of one in which all went well", () => {
    const { count, wrong } = history()
    says(wrong())
    assert.deepStrictEqual(count(), { twice: 0, bound: 0 })
  })

  it("see a record that was never finished, though the group has passed it", () => {
    const { run, wrong } = history()
    run("UPDATE handlings SET outcome = 'interrupted' WHERE offset = 4")
    says(
      wrong(),
      "lost: 1 records of a/0 never finished: 4",
      "lost: 1 acknowledged records were not handled",
      "committed too far: 6 of a/0 at 0.520 s, when 4 had not finished (it did at no time)",
      "committed too far: 10 of a/0 at 0.910 s, when 4 had not finished"
    )
  })

  it("see a record that the broker had acknowledged and that is in no log", () => {
    const { run, wrong } = history()
    run("INSERT INTO produced VALUES (99, 'a', 'k', 'work', 50)")
    says(wrong(), "lost: 1 acknowledged records were not handled (0 were deleted): 99")
  })

  it("take a dead letter for done, from the time at which the broker has it", () => {
    const { run, wrong } = history()
    run("UPDATE handlings SET outcome = 'failed' WHERE offset = 4; INSERT INTO letters VALUES ('a', 0, 4, 400)")
    says(wrong())
    run("UPDATE letters SET at = 700")
    says(wrong(), "committed too far: 6 of a/0 at 0.520 s, when 4 had not finished (it did at 0.700 s)")
  })

  it("excuse what the broker was made to delete, and only that", () => {
    const { run, wrong } = history()
    run("DELETE FROM handlings WHERE offset IN (4, 8); INSERT INTO cuts VALUES ('a', 0, 5, 400)")
    says(
      wrong(),
      "lost: 1 records of a/0 never finished: 8",
      "lost: 2 acknowledged records were not handled (1 were deleted)",
      "committed too far: 10 of a/0"
    )
  })

  it("see a commit that was there before its record had finished", () => {
    const { run, wrong } = history()
    run("UPDATE samples SET answered = 150 WHERE offset = 3")
    says(wrong(), "committed too far: 3 of a/0 at 0.150 s, when 2 had not finished (it did at 0.165 s)")
  })

  it("see an offset map that calls a record done which is not, and one that cannot be read", () => {
    const { sample, wrong } = history()
    sample(3, 195, mapOf(3, 1, 3))
    says(wrong(), "offset map of a/0 beside 3 calls 4 done, which had not finished")
    sample(3, 300, mapOf(2, 1, 3))
    says(wrong(), "offset map of a/0 beside 3 calls 4 done", "offset map of a/0 beside 3 cannot be read: checkWrong")
  })

  it("see a committed offset that goes back, and a lag at the end", () => {
    const { run, wrong } = history()
    run("UPDATE samples SET offset = 5 WHERE offset = 10")
    says(wrong(), "lag: a/0 ends at 10, committed at the end was 5", "went back: committed of a/0 from 6 to 5")
  })

  it("see records of a key out of order, and two at once", () => {
    const { handling, run, wrong } = history()
    run("UPDATE handlings SET key = 'even' WHERE offset = 9")
    says(wrong())
    run("UPDATE handlings SET started = 671 WHERE offset = 9; UPDATE handlings SET finished = 680 WHERE offset = 8")
    says(wrong(), "two at once: key even started a/0/9 in process 2, epoch 2 while 8 ran")
    run("UPDATE handlings SET started = 690 WHERE offset = 9")
    handling(2, 6, 710, 715)
    says(
      wrong(),
      "order: key even started a/0/6 in process 2, epoch 2 after 9",
      "twice in one epoch: a/0/6 in process 2, epoch 2",
      "duplicates: 1 records were finished again, and at most 0 may have been"
    )
  })

  it("see what is handled again although it was committed when the partition was begun", () => {
    const { handling, wrong } = history()
    handling(2, 5, 720, 725)
    says(
      wrong(),
      "again: a/0/6 in process 2, epoch 2 began at 0.600 s, when 6 and an offset map of 0 runs were committed, and handled 1",
      "duplicates: 1 records were finished again, and at most 0 may have been"
    )
  })

  it("see what had finished before a partition was given up and is not in its last commit", () => {
    const { run, wrong } = history()
    run("DELETE FROM commits WHERE offset = 6; DELETE FROM samples WHERE offset = 6")
    says(wrong(), "not flushed: a/0/3 in process 1, epoch 1 and 2 more had finished before the partition was given up")
  })

  it("let what was in flight at a revoke be handled twice, and nothing else", () => {
    const { count, handling, rebalance, run, wrong } = history()
    run("UPDATE signals SET name = 'none'; UPDATE handlings SET finished = 560 WHERE offset = 5")
    run("UPDATE commits SET offset = 5 WHERE offset = 6; UPDATE samples SET offset = 5 WHERE offset = 6")
    rebalance(1, 500, "revoked")
    handling(2, 5, 720, 725)
    says(wrong())
    assert.deepStrictEqual(count(), { twice: 1, bound: 1 })
    handling(2, 5, 730, 735)
    says(wrong(), "twice in one epoch: a/0/5 in process 2", "duplicates: 2 records were finished again, and at most 1")
  })

  it("let what was in flight at a kill be handled twice, and what had finished since the last commit", () => {
    const { count, handling, run, wrong } = history()
    run(
      "UPDATE signals SET name = 'SIGKILL'; DELETE FROM commits WHERE offset = 6; DELETE FROM samples WHERE offset = 6"
    )
    run("UPDATE handlings SET finished = NULL, outcome = NULL WHERE offset = 5")
    for (const offset of [3, 4, 5]) handling(2, offset, 720 + offset, 720 + offset + 0.5, "finished", `again ${offset}`)
    says(wrong())
    assert.deepStrictEqual(count(), { twice: 2, bound: 3 })
  })

  it("see a process that ended by itself, and one that did not end in order", () => {
    const { run, wrong } = history()
    run("INSERT INTO exits VALUES (1, 130, 'SIGTERM', 600), (2, NULL, 'SIGKILL', 600)")
    says(wrong())
    run("INSERT INTO exits VALUES (3, 1, NULL, 600), (4, 1, 'SIGTERM', 600)")
    says(wrong(), "ended: process 3 by itself, with 1", "ended: process 4 with 1, told to by SIGTERM")
  })

  it("count what an offset map holds as committed", () => {
    const { commit, count, handling, run, wrong } = history()
    run(
      "UPDATE signals SET name = 'SIGKILL'; DELETE FROM commits WHERE offset = 6; DELETE FROM samples WHERE offset = 6"
    )
    commit(1, 3, 300, "committed", mapOf(3, 1, 2))
    for (const offset of [3, 5]) handling(2, offset, 720 + offset, 720 + offset + 0.5)
    says(wrong())
    assert.deepStrictEqual(count(), { twice: 2, bound: 2 })
  })
})
