package storekit_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/storekit"
)

// TestExampleKeepsPromises checks that the store of the example keeps the promises of package partd.
func TestExampleKeepsPromises(t *testing.T) {
	partdtest.Run(t, func(*testing.T) partd.Partd { return &mapStore{values: map[string][]byte{}} }, nil)
}

// TestErrorPaths checks that ErrorPaths finds the paths of all types of errors, however they are wrapped.
func TestErrorPaths(t *testing.T) {
	err := fmt.Errorf("a: %w", errors.Join(
		&partd.Error{Op: "append", Path: "/1", Err: &partd.CorruptError{Path: "/2222", Err: fs.ErrInvalid}},
		fmt.Errorf("%w and %w", &fs.PathError{Op: "open", Path: "/33", Err: fs.ErrNotExist}, &os.LinkError{Op: "rename", Old: "/444", New: "/55", Err: fs.ErrExist}),
		&fs.PathError{Op: "read", Path: "/33", Err: fs.ErrClosed}, &fs.PathError{Err: fs.ErrClosed},
	))
	if got, want := storekit.ErrorPaths(err), []string{"/2222", "/444", "/33", "/55", "/1"}; !slices.Equal(got, want) {
		t.Errorf("ErrorPaths(%v) = %q, want %q", err, got, want)
	}
	if got := storekit.ErrorPaths(nil); len(got) != 0 {
		t.Errorf("ErrorPaths(nil) = %q, want nothing", got)
	}
}
