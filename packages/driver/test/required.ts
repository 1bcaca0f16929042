/**
 * The promises that no client may leave untried, and the tests that try them: by their suite, as a report names it behind the client, and by
 * how their names begin. Where a client is tried at all, on a real Kafka, each of them runs: `scripts/clients.ts` sees to it after a run,
 * `required.test.ts` before.
 */

export interface Required {
  readonly promise: string
  readonly tests: ReadonlyArray<readonly [suite: string, name: string]>
}

export const required: ReadonlyArray<Required> = [
  {
    promise: "A1: no commit but ours, also where an offset is out of range",
    tests: [
      ["contract", "never commits by itself"],
      ["contract", "a committed offset below the start: goes on at the start in the same epoch"],
      ["contract", "an epoch that is begun beyond the end says so"],
      ["positions on a real broker", "the log is cut above the position"]
    ]
  },
  {
    promise: "A2: retained means owned without a break",
    tests: [
      ["contract", "a missed generation retains nothing"],
      ["a group on a real broker", "a missed generation gives new epochs"],
      ["a group on a real broker", "a committed offset, or map beside it, that is not ours any more"]
    ]
  },
  {
    promise: "A3: a commit that is refused whole is told as such, and halves of it are taken",
    tests: [["commits on a real broker", "what is more than a broker can store at once"]]
  },
  {
    promise: "A4: a start under latest is committed at once",
    tests: [["the engine on a real broker", "what one has read from the latest and not finished"]]
  },
  {
    promise: "chunks are in order and complete",
    tests: [
      ["contract", "brings every record of every partition once, in offset order"],
      ["fetching from a real broker", "every record comes once, in order"]
    ]
  },
  {
    promise: "markers and compaction leave neither gaps nor lag",
    tests: [
      ["contract", "read_committed: a range of aborted records alone"],
      ["fetching from a real broker", "transactions: aborted ones are left out"],
      ["fetching from a real broker", "a compacted tail is passed in one step"]
    ]
  },
  {
    promise: "read_committed leaves out what was aborted",
    tests: [["contract", "read_committed: passes aborted records and markers"]]
  },
  {
    promise: "every codec is read, as Java writes it",
    tests: [["fetching from a real broker", "what the broker itself has compressed is read"]]
  },
  {
    promise: "pause, resume, seek",
    tests: [
      ["contract", "a paused partition brings at most one more chunk"],
      ["contract", "reopen gives a new epoch"],
      ["positions on a real broker", "a resume, a begin and a reopen take effect at once"]
    ]
  },
  {
    promise: "every outcome of a commit",
    tests: [
      ["contract", "answers each entry in the order of the entries"],
      ["commits on a real broker", "what a coordinator answers to a commit is its outcome"],
      ["commits on a real broker", "commits between JoinGroup and Assigned are deferred"],
      ["commits on a real broker", "a commit that is answered with %d is retriable"],
      ["a group on a real broker", "an eviction while nothing is held"],
      ["topics of a real broker", "deleted: when a commit of one partition is refused for it"],
      ["static members", "D36: an instance id that is used twice: the first one ends"],
      ["a Kafka that is away, or silent", "a commit without an answer"]
    ]
  },
  {
    promise: "metadata both ways",
    tests: [["contract", "stores offset and metadata, and the next session is told both"]]
  },
  {
    promise: "an offset that a transaction is about to replace is waited for",
    tests: [["commits on a real broker", "an offset that a transaction is about to replace"]]
  },
  {
    promise: "cooperative rebalances revoke what moves, and nothing else",
    tests: [
      ["cooperative", "only what moves is revoked, exactly"],
      ["cooperative", "a missed generation retains nothing"],
      ["cooperative", "a group changes from eager to cooperative members"]
    ]
  },
  {
    promise: "a revoke is awaited",
    tests: [
      ["contract", "a revoke is awaited: commits are taken in the hold"],
      ["a group on a real broker", "a hold outlives the session timeout"]
    ]
  },
  {
    promise: "what is lost is told, and comes back in new epochs",
    tests: [
      ["contract", "who is thrown out has lost everything"],
      ["contract", "who is thrown out in a hold"],
      ["contract", "what is retained keeps its epoch"]
    ]
  },
  {
    promise: "a zombie is fenced",
    tests: [["a group on a real broker", "an event loop that stands still for longer than the session"]]
  },
  {
    promise: "leaders and coordinators move",
    tests: [
      ["three brokers of which one goes", "a rolling restart of three brokers"],
      ["three brokers of which one goes", "SIGKILL of one of three brokers"]
    ]
  },
  {
    promise: "a broker is down for 30 s",
    tests: [["a Kafka that goes away", "SIGKILL and a restart 30 seconds later"]]
  },
  {
    promise: "a topic that comes late",
    tests: [["contract", "join waits for a topic that is not there"]]
  },
  {
    promise: "a topic that is deleted and created again",
    tests: [
      ["contract", "a topic that is deleted and created again is another one"],
      ["topics of a real broker", "deleted and created again with more records than before"],
      ["a Kafka that takes commits by topic id", "a commit that comes behind the end of its topic"]
    ]
  },
  {
    promise: "partitions that are added",
    tests: [
      ["contract", "partitions that are added are assigned"],
      ["topics of a real broker", "partitions that are added are noticed within metadataMaxAge"]
    ]
  },
  {
    promise: "a thousand partitions with maps",
    tests: [["contract", "a thousand partitions with offset maps"]]
  },
  {
    promise: "close leaves nothing running",
    tests: [
      ["contract", "closing the scope leaves the group"],
      ["a program that has closed its session", "ends by itself, without a socket, a timer or a warning left"]
    ]
  },
  {
    promise: "C23: two clients in one group",
    tests: [["one group of two clients", "partitions are split, handed over to "]]
  },
  {
    promise: "SASL and TLS",
    tests: [
      ["a Kafka with listeners that ask who is there", "SASL %s"],
      ["a Kafka with listeners that ask who is there", "TLS with a certificate authority of one's own"]
    ]
  }
]
