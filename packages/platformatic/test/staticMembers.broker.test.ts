import { staticMembers } from "../../driver/test/suites/staticMembers.ts"
import { client } from "./client.ts"

staticMembers(client, "classic")
staticMembers(client, "consumer")
