/**
 * Tells the service manager how we are (sd_notify(3), `Type=notify`): ready, reloading, stopping, and who the main process
 * is after a restart. Without NOTIFY_SOCKET nothing is sent. It is no reason to fail: an error is logged once.
 */
import type { Telemetry } from "../../events/telemetry.ts";
import { native } from "../../net/native.ts";

export class ServiceManager {
  private readonly path: string | undefined;
  private readonly log: Telemetry["log"];
  private failed = false;
  private watchdog: NodeJS.Timeout | undefined;

  constructor(environment: NodeJS.ProcessEnv, log: Telemetry["log"]) {
    this.path = environment.NOTIFY_SOCKET || undefined;
    this.log = log;
    const watchdogMs = Number(environment.WATCHDOG_USEC ?? 0) / 1000;
    if (watchdogMs > 0 && this.path !== undefined) {
      this.watchdog = setInterval(() => this.send("WATCHDOG=1"), watchdogMs / 2);
      this.watchdog.unref();
    }
  }

  /**
   * We are the main process from now on: told before the one until now may end, since with its main process a service ends.
   * (systemd reads its messages before it looks for processes that have ended.)
   */
  takesOver(): void {
    this.send(`MAINPID=${process.pid}`);
  }

  /** MAINPID: after a restart it is another process than the one that was started. */
  ready(status: string): void {
    this.send(`READY=1\nMAINPID=${process.pid}\nSTATUS=${status}`);
  }

  reloading(): void {
    const monotonicMicroseconds = process.hrtime.bigint() / 1000n;
    this.send(`RELOADING=1\nMONOTONIC_USEC=${monotonicMicroseconds}`);
  }

  status(status: string): void {
    this.send(`STATUS=${status}`);
  }

  stopping(): void {
    this.send("STOPPING=1\nSTATUS=stopping: transactions finish");
  }

  /** Another process is the main one now: nothing more is sent from here. */
  superseded(): void {
    clearInterval(this.watchdog);
    this.failed = true;
  }

  private send(text: string): void {
    if (this.path === undefined || this.failed) return;
    try {
      native.sendDatagram(this.path, text);
    } catch (error) {
      this.failed = true;
      this.log("warn", "notify_failed", "NOTIFY_SOCKET: the service manager cannot be told", {}, error);
    }
  }
}
