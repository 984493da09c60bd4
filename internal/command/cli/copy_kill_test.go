package cli

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestKilledCopy checks that a killed copy leaves the source unchanged. If it has written anything, the next run
// rejects the target, because it is not empty. So no data is duplicated or lost.
func TestKilledCopy(t *testing.T) {
	dir := t.TempDir()
	source, target := "s2+file:"+dir+"/from", "zstd+log:"+dir+"/to"
	random := rand.NewChaCha8([32]byte{1})
	var entries []partd.Entry
	for i := range 32 {
		value := make([]byte, 512<<10)
		_, _ = random.Read(value)
		entries = append(entries, partd.Entry{Key: fmt.Sprint("key ", i), Value: value})
	}
	fillStore(t, source, entries...)
	killed, refused := 0, 0
	for i := range 6 {
		p := procs.Start(t, program(t, "copy", "--from", source, "--to", target, "--quiet", "--memory", "16MiB"))
		timer := p.KillAfter(time.Duration(20+15*i) * time.Millisecond)
		err := p.Wait()
		switch code := p.Cmd.ProcessState.ExitCode(); {
		case !timer.Stop() && p.WasKilled():
			killed++
		case code == 1 && strings.Contains(p.Stderr(), "already has keys"):
			refused++
		case code != 0:
			t.Fatalf("partd copy: %v", err)
		}
	}
	t.Logf("%d copies were killed, and %d rejected the target", killed, refused)
	code, out, errs := partdCopy(t, "--from", source, "--to", target, "--replace")
	if code != 0 || !strings.Contains(out, "keys      32\n") {
		t.Fatalf("partd copy --replace: exit code %d, %s%s", code, out, errs)
	}
	for _, e := range entries {
		for _, url := range []string{source, target} {
			if valueOf(t, url, e.Key) != string(e.Value) {
				t.Errorf("%s: key %q has a wrong value", url, e.Key)
			}
		}
	}
}
