package output

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestSeparatorsInValues checks that a format is not plain if its separator can occur in a number, true or false,
// because such values are written without a check.
func TestSeparatorsInValues(t *testing.T) {
	values := fmt.Sprint(-1.5e-10, 1e+21, 1234567890, true, false)
	for c := rune('!'); c < 0x7f; c++ {
		if c == '"' {
			continue
		}
		r := must.Get(NewRows(records.Layout{Format: records.CSV, Sep: string(c)}, nil))(t)
		if p := r.Plain(); p != nil && strings.ContainsRune(values, c) {
			t.Errorf("rows with the separator %q are plain, although numbers can contain it", c)
		} else if c == ';' && (p == nil || p.Sep != ';' || p.Holds([]byte("a;b")) || !p.Holds([]byte("a,b"))) {
			t.Errorf("rows with the separator %q are described as %v", c, p)
		}
	}
}

// TestParentOfLink checks that ".." after a symbolic link is the parent of the link's target, as for other programs.
func TestParentOfLink(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "a/b"), 0o777),
		os.Symlink("a/b", filepath.Join(dir, "link")),
		os.Symlink("link/../file", filepath.Join(dir, "out")),
		write(t, filepath.Join(dir, "out"), false, "new"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := readContent(t, filepath.Join(dir, "a/file")); got != "new" {
		t.Errorf("a/file contains %q, want the new content", got)
	}
}
