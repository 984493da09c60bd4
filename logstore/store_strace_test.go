package logstore

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestSystemCallFaults makes system calls of a writer process fail, starting at a given call. The
// writer must exit with an error that says what failed, and everything that it acknowledged must be
// in the store.
func TestSystemCallFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		call, errno, message string
		sync                 bool
	}{
		{"pwrite64", "ENOSPC", "no space left on device", false},
		{"pwrite64", "EIO", "input/output error", false},
		{"pwrite64", "EROFS", "read-only file system", false},
		{"fsync", "EIO", "input/output error", true},
		{"renameat", "EROFS", "read-only file system", false},
		{"ftruncate", "ENOSPC", "no space left on device", false},
	} {
		for _, when := range []string{"1+", "4+", "40+", "300+"} {
			name := fmt.Sprintf("%s %s %s", c.call, c.errno, when)
			dir := t.TempDir()
			args := []string{dir, "500"}
			if c.sync {
				args = append(args, "sync")
			}
			cmd := procs.Strace(t, procs.Command("writer", args...), os.DevNull, "-e", "trace="+c.call,
				"-e", fmt.Sprintf("inject=%s:error=%s:when=%s", c.call, c.errno, when))
			var out, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &stderr
			err := cmd.Run()
			procs.SkipUntraced(t, stderr.String())
			if err == nil && when != "1+" {
				continue // the writer made fewer calls
			}
			if err == nil || !strings.Contains(stderr.String(), c.message) {
				t.Fatalf("%s: the writer exited with %v and message %q, want %q", name, err, stderr.String(), c.message)
			}
			acked := int64(-1)
			lines := strings.Fields(out.String())
			if len(lines) > 0 {
				if acked, err = strconv.ParseInt(lines[len(lines)-1], 10, 64); err != nil {
					t.Fatal(err)
				}
			}
			checkKilled(t, dir, acked, 0)
		}
	}
}
