import { defineConfig } from "@playwright/test";

// The tests use the browser that is installed on this machine, and never download one.
export default defineConfig({
  testDir: "test",
  globalSetup: "./test/build.ts",
  workers: 1,
  timeout: 90_000,
  expect: { timeout: 60_000 },
  use: {
    viewport: { width: 1280, height: 800 },
    launchOptions: { executablePath: process.env.PARTD_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] },
  },
});
