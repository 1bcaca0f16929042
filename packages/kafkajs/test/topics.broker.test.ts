import { topicIds } from "../../driver/test/suites/topicIds.ts"
import { topics } from "../../driver/test/suites/topics.ts"
import { client } from "./client.ts"

topics(client)
topicIds(client)
