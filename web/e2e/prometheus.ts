// A Prometheus that reads the admin interfaces of a server and a client, with the rules that come along.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { answering, freePort } from "./program.ts";

const RULES = join(dirname(fileURLToPath(import.meta.url)), "../../packaging/prometheus/alerts.yml");

export function hasPrometheus(): boolean {
  return spawnSync("prometheus", ["--version"]).status === 0;
}

export interface Prometheus {
  url: string;
  /** The values that a query has at present. */
  ask: (query: string) => Promise<number[]>;
  close: () => Promise<void>;
}

/** Reads from those once a second. */
export async function prometheus(targets: Record<string, string>): Promise<Prometheus> {
  const folder = mkdtempSync(join(tmpdir(), "prometheus-"));
  const jobs = Object.entries(targets).map(([name, at]) => ({ job_name: name, static_configs: [{ targets: [at] }] }));
  const config = { global: { scrape_interval: "1s", evaluation_interval: "1s" }, rule_files: ["alerts.yml"], scrape_configs: jobs };
  // By names without a folder, as they are shown.
  copyFileSync(RULES, join(folder, "alerts.yml"));
  // JSON is YAML.
  writeFileSync(join(folder, "prometheus.yml"), JSON.stringify(config));
  const at = `127.0.0.1:${await freePort()}`;
  const args = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", `--web.listen-address=${at}`];
  const process = spawn("prometheus", args, { stdio: "ignore", cwd: folder });
  const url = `http://${at}`;
  const close = async (): Promise<void> => {
    const ended = once(process, "exit");
    process.kill("SIGKILL");
    await ended;
    rmSync(folder, { recursive: true });
  };
  try {
    await answering(`${url}/-/ready`);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    url,
    ask: async (query) => {
      const answer = (await (await fetch(`${url}/api/v1/query?query=${encodeURIComponent(query)}`)).json()) as {
        data: { result: { value: [number, string] }[] };
      };
      return answer.data.result.map(({ value }) => Number(value[1]));
    },
    close,
  };
}
