/**
 * The promises that no client may leave untried, and the tests that try them: by their suite, as a report names it behind the client, and by
 * how their names begin. Where a client is tried at all, on a real Kafka, each of them runs in each way that its group protocols allow:
 * `scripts/clients.ts` sees to it after a run, `required.test.ts` before.
 */
import type { GroupProtocol } from "./client.ts"

/** How a group rebalances: `eager` and `cooperative` in the classic protocol, `consumer` under KIP-848. */
export type Way = "eager" | "cooperative" | "consumer"

type Test = readonly [
  suite: string,
  /** `%s` or `%d` stands for each of `each`. */
  name: string,
  how?: {
    /** The cases of an `it.each`; `"protocols"`: the group protocols of the client. */
    readonly each?: ReadonlyArray<string> | "protocols"
    /** Why a suite of several ways has it in these alone: the test is not there, or it is skipped with a reason, in the others. */
    readonly only?: ReadonlyArray<Way>
  }
]

export interface Required {
  readonly promise: string
  readonly tests: ReadonlyArray<Test>
}

/** Suites that are run in several ways, or in one that not every client has. All others are run once: what they try is the same in all. */
const ways: Readonly<Record<string, ReadonlyArray<Way>>> = {
  contract: ["eager", "cooperative", "consumer"],
  "a group on a real broker": ["eager", "consumer"],
  "commits on a real broker": ["eager", "consumer"],
  "positions on a real broker": ["eager", "consumer"],
  "a compacted log on a real broker": ["eager", "consumer"],
  "static members": ["eager", "consumer"],
  "a program that has closed its session": ["eager", "consumer"],
  "the consumer protocol": ["consumer"],
  "the consumer protocol, with a Kafka that goes away": ["consumer"]
}

const suffix: Readonly<Record<Way, string>> = {
  eager: "",
  cooperative: ", cooperative",
  consumer: ", consumer protocol"
}

/** Nobody can miss a generation under the consumer protocol, and what is held is not read again. */
const eager = { only: ["eager"] } as const

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
      ["contract", "a missed generation retains nothing", eager],
      ["a group on a real broker", "a missed generation gives new epochs", eager],
      ["a group on a real broker", "a committed offset, or map beside it, that is not ours any more", eager]
    ]
  },
  {
    promise: "A3: a commit that is refused whole is told as such, and halves of it are taken",
    tests: [["contract", "what is more than a broker can store at once"]]
  },
  {
    promise: "A4: a start under latest is committed at once",
    tests: [["contract", "what one has read from the latest and not finished"]]
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
      ["a compacted log on a real broker", "a compacted tail is passed in one step"]
    ]
  },
  {
    promise: "read_committed leaves out what was aborted",
    tests: [["contract", "read_committed: passes aborted records and markers"]]
  },
  {
    promise: "every codec is read, as Java writes it",
    tests: [
      [
        "fetching from a real broker",
        "what the broker itself has compressed is read: %s",
        { each: ["gzip", "snappy", "lz4", "zstd"] }
      ]
    ]
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
      ["commits on a real broker", "commits between JoinGroup and Assigned are deferred", eager],
      ["commits on a real broker", "a commit that is answered with %d is retriable", { each: ["15", "16"] }],
      ["a group on a real broker", "an eviction while nothing is held"],
      ["topics of a real broker", "deleted: when a commit of one partition is refused for it"],
      ["static members", "D36: an instance id that is used twice: the first one ends", eager],
      ["static members", "D36: an instance id that is used twice: the second one waits", { only: ["consumer"] }],
      [
        "a Kafka that is away, or silent",
        "a commit without an answer: nobody knows, its connection is closed, and the next one is taken (%s protocol)",
        { each: "protocols" }
      ]
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
      ["cooperative", "a group changes from eager to cooperative members"],
      ["contract", "exact revocations: the other partitions keep flowing", { only: ["cooperative", "consumer"] }]
    ]
  },
  {
    promise: "D45: static members come back without a rebalance",
    tests: [["static members", "D45: one that restarts in time"]]
  },
  {
    promise: "D46: an epoch that moves without an assignment stops no commit",
    tests: [
      ["the consumer protocol", "D46: the epoch of a member moves without an assignment"],
      ["the consumer protocol", "D46: a commit that is refused for its epoch is deferred"],
      ["the consumer protocol", "D46: what the consumer has done is committed"]
    ]
  },
  {
    promise: "D47: under KIP-848 only what goes is drained",
    tests: [["the consumer protocol", "D47, I11: only what goes is drained"]]
  },
  {
    promise: "a group changes from one protocol to the other, and back",
    tests: [["the consumer protocol", "members of both protocols share a group"]]
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
    promise: "a broken connection heals",
    tests: [["contract", "a broken connection heals by itself, and nothing comes twice"]]
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
    tests: [
      ["a Kafka that goes away", "SIGKILL and a restart 30 seconds later"],
      ["the consumer protocol, with a Kafka that goes away", "SIGKILL and restart: everything is kept"]
    ]
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
      [
        "a Kafka that takes commits by topic id",
        "a commit that comes behind the end of its topic is not taken for the next one of its name (%s protocol)",
        { each: "protocols" }
      ]
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
      [
        "a program that has closed its session",
        "ends by itself, without a socket, a timer or a warning left (%s)",
        { each: ["close", "leave", "joining"] }
      ],
      [
        "a program that has closed its session",
        "ends by itself, without a socket, a timer or a warning left (%s)",
        { each: ["fail", "waiting", "producing"], only: ["eager"] }
      ]
    ]
  },
  {
    promise: "C23: two clients in one group",
    tests: [["one group of two clients", "partitions are split, handed over to "]]
  },
  {
    promise: "producer: in the log once, in order, as it was sent",
    tests: [
      ["contract", "producer: records of a partition are stored once and in the order in which they were sent"],
      ["contract", "producer: bytes come back as they were sent"],
      ["contract", "producer: a record that is too large is refused"],
      ["contract", "producer: closing waits for what is under way"],
      ["what a producer sends", "is read by plain kafkajs as it was sent"],
      ["a Kafka that is away, or silent", "answers that never arrive: what the broker has already is stored once"]
    ]
  },
  {
    promise: "admin: what explain and redrive ask",
    tests: [
      ["contract", "answers the questions of an admin"],
      ["a Kafka with listeners that ask who is there", "an admin asks over SASL and TLS"]
    ]
  },
  {
    promise: "SASL and TLS",
    tests: [
      [
        "a Kafka with listeners that ask who is there",
        "SASL %s",
        { each: ["plain", "scram-sha-256", "scram-sha-512"] }
      ],
      ["a Kafka with listeners that ask who is there", "SASL oauthbearer, with the token from an Effect"],
      ["a Kafka with listeners that ask who is there", "TLS with a certificate authority of one's own"],
      ["a Kafka with listeners that ask who is there", "TLS with a certificate of the client"],
      ["a Kafka with listeners that ask who is there", "settings from the environment: SASL over TLS"]
    ]
  },
  {
    promise: "a client has the group protocols that this list takes it to have",
    tests: [["joining and leaving on a real broker", "a session says which group protocols its client has"]]
  }
]

/** A test as a report has it. */
export interface Wanted {
  readonly promise: string
  readonly suite: string
  /** The suite behind the client's name, as it is called when it is run in this way. */
  readonly named: string
  readonly way: Way
  readonly name: string
  readonly title: string
}

/** All that a client with these group protocols must have run. */
export const wantedOf = (
  protocols: ReadonlyArray<GroupProtocol>,
  list: ReadonlyArray<Required> = required
): ReadonlyArray<Wanted> => {
  const has = (way: Way) => protocols.includes(way === "consumer" ? "consumer" : "classic")
  return list.flatMap(({ promise, tests }) =>
    tests.flatMap(([suite, name, { each = [], only } = {}]) => {
      const own = ways[suite] ?? ["eager"]
      const cases = each === "protocols" ? protocols : each
      return own
        .filter((way) => has(way) && (only ?? own).includes(way))
        .flatMap((way) =>
          (cases.length === 0 ? [name] : cases.map((one) => name.replace(/%[sd]/, one))).map((title) => ({
            promise,
            suite,
            named: own.length === 1 ? suite : `${suite}${suffix[way]}`,
            way,
            name,
            title
          }))
        )
    })
  )
}
