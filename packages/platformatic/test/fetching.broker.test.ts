import { compaction } from "../../driver/test/suites/compaction.ts"
import { fetching } from "../../driver/test/suites/fetching.ts"
import { positions } from "../../driver/test/suites/positions.ts"
import { client } from "./client.ts"

fetching(client)
positions(client)
compaction(client)
