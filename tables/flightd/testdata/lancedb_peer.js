// Runs a query with @lancedb/arrow-flight-sql-client, and prints its rows as JSON.
const { Client } = require("@lancedb/arrow-flight-sql-client");

const [host, token, sql] = process.argv.slice(2);
(async () => {
  const client = await Client.connect({ host, username: "token", password: token, insecure: true });
  const result = await client.query(sql);
  console.log(JSON.stringify(await result.collectToObjects(), (_, v) => (typeof v === "bigint" ? Number(v) : v)));
  process.exit(0);
})().catch((e) => {
  console.error(e);
  process.exit(1);
});
