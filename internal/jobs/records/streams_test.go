package records

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

func TestCheckStreams(t *testing.T) {
	if _, err := os.Stat("/dev/fd"); err != nil {
		t.Skip("the system has no names for open files")
	}
	first, _, err := os.Pipe()
	must.Do(t, err)
	other, _, err := os.Pipe()
	must.Do(t, err)
	file := filepath.Join(t.TempDir(), "file")
	must.Do(t, os.WriteFile(file, nil, 0o666))
	pipe, otherPipe := fmt.Sprintf("/dev/fd/%d", first.Fd()), fmt.Sprintf("/dev/fd/%d", other.Fd())
	for _, c := range []struct {
		stdin *os.File
		names []string
		want  string
	}{
		{first, []string{pipe, file, pipe}, pipe + " and " + pipe + " are the same pipe, socket or terminal: name it once"},
		{first, []string{Stdin, otherPipe, pipe}, Stdin + " and " + pipe + " are the same pipe"},
		{first, []string{pipe, Stdin}, pipe + " and " + Stdin + " are the same pipe"},
		{first, []string{Stdin, Stdin}, "standard input (-) is given twice"},
		{nil, []string{Stdin, file, Stdin}, "standard input (-) is given twice"},
		{first, []string{Stdin, otherPipe, file, file, os.DevNull, os.DevNull, "missing", "missing"}, ""},
		{other, []string{Stdin, pipe}, ""},
		{nil, []string{Stdin, file}, ""},
	} {
		err := CheckStreams(c.stdin, c.names...)
		if (err != nil) != (c.want != "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("CheckStreams of %q = %v, want %q", c.names, err, c.want)
		}
	}
}
