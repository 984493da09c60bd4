package vfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestHolder checks that a note is trusted only while its process runs.
func TestHolder(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("this system does not distinguish processes")
	}
	host := must.Get(os.Hostname())(t)
	name := filepath.Join(t.TempDir(), "LOCK")
	l := OS{}.NewLock(name)
	if got, err := l.TryLock(true); !got || err != nil {
		t.Fatalf("TryLock() = %v, %v, want true", got, err)
	}
	defer l.Unlock() //nolint:errcheck // test
	must.Do(t, RecordHolder(OS{}, name))
	ownNote := fmt.Sprintf("process %d on %s (%s, since 20", os.Getpid(), host, filepath.Base(os.Args[0]))
	if got := Holder(OS{}, name); !strings.HasPrefix(got, ownNote) {
		t.Errorf("Holder() = %q, want prefix %q", got, ownNote)
	}
	ended := exec.Command("true")
	must.Do(t, ended.Run())
	const unknown = "another process"
	own := processStart(os.Getpid())
	for noteName, c := range map[string]struct{ note, want string }{
		"of an ended process":                 {fmt.Sprintf("process %d on %s (x, since y)\n%s\n", ended.Process.Pid, host, own), unknown},
		"of an earlier process with this PID": {fmt.Sprintf("process %d on %s (x, since y)\n%s0\n", os.Getpid(), host, own), unknown},
		"of another machine":                  {"process 7 on elsewhere (x, since y)\n" + own + "\n", unknown + " (the last holder recorded in " + name + " was process 7 on elsewhere (x, since y))"},
		"without a start time":                {"process 7 on " + host + "\n", unknown + " (the last holder recorded in " + name + " was process 7 on " + host + ")"},
		"truncated":                           {"process 7 on", unknown},
		"unrelated text":                      {"hello\n\n", unknown},
		"with an escape sequence":             {"process 7 on elsewhere\x1b[31m\n\n", unknown},
		"empty":                               {"", unknown},
		"very long":                           {strings.Repeat("process ", 1000), unknown},
	} {
		must.Do(t, writeNote(OS{}, name, c.note))
		if got := Holder(OS{}, name); got != c.want {
			t.Errorf("note %s: Holder() = %q, want %q", noteName, got, c.want)
		}
	}
	must.Do(t, RecordHolder(OS{}, name))
	must.Do(t, ClearHolder(OS{}, name))
	if got := Holder(OS{}, name); got != unknown {
		t.Errorf("after ClearHolder: Holder() = %q, want %q", got, unknown)
	}
	if got := Holder(OS{}, name+".missing"); got != unknown {
		t.Errorf("without a lock file: Holder() = %q, want %q", got, unknown)
	}
}
