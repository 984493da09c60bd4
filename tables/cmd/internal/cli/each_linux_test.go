package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestEachKilled kills each, and interrupts it, at several times. The output is absent, or complete if the run ended
// first, and the next run removes what a killed run leaves.
func TestEachKilled(t *testing.T) {
	dir := t.TempDir()
	tmp, outDir, in := filepath.Join(dir, "tmp"), filepath.Join(dir, "out"), filepath.Join(dir, "in.parquet")
	must.Do(t, os.Mkdir(tmp, 0o777))
	must.Do(t, os.Mkdir(outDir, 0o777))
	t.Setenv("TMPDIR", tmp)
	const rows = 20_000
	writeBatch(t, in, randomRows(rows, 500, 2<<10), 1000)
	out := filepath.Join(outDir, "out.arrow")
	args := []string{"each", "--by", "k", "--memory", "64MiB", "--json", "-o", out, "SELECT k, count(*) AS n, min(value) AS v FROM rows GROUP BY k", "rows=" + in}
	start := time.Now()
	if report := mustRun(t, "", args...); !strings.HasPrefix(report, `{"rows_read":{"rows":20000},"rows_written":500,`) {
		t.Fatalf("a whole run: %s", report)
	}
	whole := must.Get(os.ReadFile(out))(t)
	must.Do(t, os.Remove(out))
	duration := time.Since(start)
	killed := 0
	for i := range procs.Kills(t, 6) {
		signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[i%2]
		cmd := program(args...)
		must.Do(t, cmd.Start())
		time.Sleep(duration * time.Duration(1+i%6) / 7)
		_ = cmd.Process.Signal(signal) // fails if the process has ended
		_ = cmd.Wait()                 // the exit code is checked below
		text, err := os.ReadFile(out)
		switch code := cmd.ProcessState.ExitCode(); {
		case code == 0 && len(text) > len(whole)/2:
			must.Do(t, os.Remove(out))
		case code == 0 || !os.IsNotExist(err):
			t.Errorf("%v: exit code %d, %d bytes in the output, error %v", signal, code, len(text), err)
		case signal == syscall.SIGTERM && code != cliutil.ExitInterrupted:
			t.Errorf("%v: exit code %d", signal, code)
		case signal == syscall.SIGTERM && len(leftovers(t, tmp, outDir)) > killed:
			t.Errorf("%v: %q are left", signal, leftovers(t, tmp, outDir))
		}
		killed = len(leftovers(t, tmp, outDir))
	}
	mustRun(t, "", args...)
	if left := leftovers(t, tmp, outDir); len(left) != 1 {
		t.Errorf("after another run, there are %q, want only the output", left)
	}
}
