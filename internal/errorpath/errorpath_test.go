package errorpath_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/errorpath"
)

// TestIn checks that In finds the paths of all types of errors, however they are wrapped.
func TestIn(t *testing.T) {
	err := fmt.Errorf("a: %w", errors.Join(
		&partd.Error{Op: "append", Path: "/1", Err: &partd.CorruptError{Path: "/2222", Err: fs.ErrInvalid}},
		fmt.Errorf("%w and %w", &fs.PathError{Op: "open", Path: "/33", Err: fs.ErrNotExist}, &os.LinkError{Op: "rename", Old: "/444", New: "/55", Err: fs.ErrExist}),
		&exec.Error{Name: "/66", Err: exec.ErrNotFound}, &fs.PathError{Op: "read", Path: "/33", Err: fs.ErrClosed}, &fs.PathError{Err: fs.ErrClosed},
	))
	if got, want := errorpath.In(err), []string{"/2222", "/444", "/33", "/55", "/66", "/1"}; !slices.Equal(got, want) {
		t.Errorf("In(%v) = %q, want %q", err, got, want)
	}
	if got := errorpath.In(nil); len(got) != 0 {
		t.Errorf("In(nil) = %q, want nothing", got)
	}
}
