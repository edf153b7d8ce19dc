import { defineConfig } from "vitest/config";

// The built files are checked in and embedded in the program, so their names never change and nothing in them depends
// on the machine. `target` is what browsers of the last three years understand.
export default defineConfig({
  base: "/",
  build: {
    outDir: "../ferrotunnel-observability/assets",
    emptyOutDir: true,
    assetsDir: "assets",
    assetsInlineLimit: 0,
    target: ["chrome111", "firefox121", "safari16.4"],
    modulePreload: false,
    cssCodeSplit: false,
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        entryFileNames: "assets/app.js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/[name][extname]",
        codeSplitting: false,
      },
    },
  },
  server: { proxy: { "/api": "http://127.0.0.1:4040" } },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
});
