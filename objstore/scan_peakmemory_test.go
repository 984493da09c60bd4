package objstore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestPeakMemory checks that a process that writes a million keys and reads them grouped stays within
// the store's memory limit. It starts a separate process, because the peak covers the whole lifetime
// of a process.
func TestPeakMemory(t *testing.T) {
	const memory, keys, bytes = 128 << 20, 1_000_000, 300 << 20
	dir := os.Getenv("PARTD_PEAK_DIR")
	if dir == "" {
		if runtime.GOOS != "linux" || procs.RaceEnabled {
			t.Skip("needs /proc, and the race detector uses additional memory")
		}
		for _, disk := range []string{"", "disk"} {
			cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^TestPeakMemory$")
			cmd.Env = append(os.Environ(), "PARTD_PEAK_DIR="+t.TempDir(), "PARTD_PEAK_DISK="+disk)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "peak") {
				t.Errorf("the child process: %v\n%s", err, out)
			}
			t.Logf("%s", out)
		}
		return
	}
	d := must.Get(OpenDirectory(dir))(t)
	o := Options{Memory: memory}
	if os.Getenv("PARTD_PEAK_DISK") != "" {
		o.Disk, o.hooks.alwaysRegroup = 1<<30, true
	}
	s := open(t, d, o)
	random := rand.New(rand.NewPCG(1, 1))
	entries := make([]partd.Entry, 1000)
	value := make([]byte, 100)
	for range bytes / 100 / len(entries) {
		for i := range entries {
			entries[i] = partd.Entry{Key: fmt.Sprint("key ", random.IntN(keys)), Value: value}
		}
		must.Do(t, s.Append(t.Context(), entries...))
	}
	n := mustCountKeys(t, s)
	if n < keys*9/10 {
		t.Errorf("the store has %d keys, want at least %d", n, keys*9/10)
	}
	used := s.MemoryUsed()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	_, peak, err := procs.Memory(os.Getpid())
	if err != nil || peak > memory {
		t.Errorf("the process's peak memory is %d MiB, but the limit of the store is %d MiB (error %v)", peak>>20, memory>>20, err)
	}
	t.Logf("%d keys, peak of %d MiB, limit %d; the store reports %d", n, peak>>20, memory>>20, used>>20)
}
