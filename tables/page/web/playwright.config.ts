import { defineConfig } from "@playwright/test";

// The browser is the machine's own: none is ever downloaded.
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
