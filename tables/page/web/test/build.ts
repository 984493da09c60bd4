import { execFileSync } from "node:child_process";

// Once for all tests: the program, with the page as it was built.
export default function build() {
  execFileSync("go", ["build", "-o", "web/test-results-bin/partd-tables", "../cmd/partd-tables"], {
    cwd: "..",
    env: { ...process.env, GOWORK: "off" },
    stdio: "inherit",
  });
}
