/**
 * What jest says inside the lab: every test when it ends, because under emulation a file takes minutes, and what failed.
 * @implements {import('@jest/reporters').Reporter}
 */
module.exports = class LabReporter {
  onTestFileStart(test) {
    say(`lab: ${test.path}`);
  }

  onTestCaseResult(_, result) {
    const sign = { passed: '✓', failed: '✕' }[result.status] ?? '○';
    say(`  ${sign} ${result.fullName} (${((result.duration ?? 0) / 1000).toFixed(1)} s)`);
  }

  onTestFileResult(_, result) {
    if (result.failureMessage) say(result.failureMessage);
  }

  getLastError() {
    // What failed is in the results.
  }
};

function say(line) {
  process.stderr.write(`${line}\n`);
}
