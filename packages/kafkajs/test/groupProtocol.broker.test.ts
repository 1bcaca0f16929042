import { commits } from "../../driver/test/suites/commits.ts"
import { compaction } from "../../driver/test/suites/compaction.ts"
import { consumerProtocol } from "../../driver/test/suites/consumerProtocol.ts"
import { group } from "../../driver/test/suites/group.ts"
import { leaving } from "../../driver/test/suites/leaving.ts"
import { positions } from "../../driver/test/suites/positions.ts"
import { client } from "./client.ts"

consumerProtocol(client)
group(client, "consumer")
commits(client, "consumer")
positions(client, "consumer")
compaction(client, "consumer")
leaving(client, "consumer")
