/**
 * Makes sure that nothing is left when a test process ends, however it ends.
 *
 * A process that is killed runs no exit hooks, so the cleaning up is done by somebody else: a shell that waits for
 * the end of its standard input, which is a pipe from this process. The system closes it when this process is gone.
 */
import { spawn } from 'node:child_process';

/** Calls the clean-up off: what it was for has been done properly. */
export type CallOff = () => void;

/** Kills a process when this one ends. */
export function killAtEnd(pid: number): CallOff {
  return atEnd('kill -9 "$1" 2>/dev/null', [`${pid}`]);
}

/** Removes a folder when this process ends. */
export function removeAtEnd(folder: string): CallOff {
  // Processes that write into it are being killed at the same moment, and may recreate what rm has just removed.
  return atEnd('for i in 1 2 3; do rm -rf "$1" 2>/dev/null && exit; sleep 0.2; done', [folder]);
}

function atEnd(command: string, args: readonly string[]): CallOff {
  const shell = spawn('sh', ['-c', `cat >/dev/null; ${command}`, 'guardian', ...args], {
    // In a group of its own: Ctrl-C in a terminal goes to the whole group of this process.
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  shell.unref();
  // The pipe must not keep the event loop alive either; its type knows nothing of being a socket.
  (shell.stdin as unknown as { unref(): void }).unref();
  return () => {
    shell.kill('SIGKILL');
    shell.stdin.destroy();
  };
}
