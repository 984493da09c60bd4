// Package errorpath finds the paths of files in errors. Servers remove these paths from the errors that they send to
// clients.
package errorpath

import (
	"cmp"
	"io/fs"
	"os"
	"os/exec"
	"slices"

	"github.com/go-partd/partd"
)

// In returns the file paths in an error and its causes, without duplicates and the longest first, so that a caller can
// replace them in this order.
func In(err error) []string {
	paths := appendPaths(nil, err)
	slices.SortFunc(paths, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	return slices.DeleteFunc(slices.Compact(paths), func(path string) bool { return path == "" })
}

func appendPaths(paths []string, err error) []string {
	switch e := err.(type) { //nolint:errorlint // appendPaths unwraps the causes itself
	case *partd.Error:
		paths = append(paths, e.Path)
	case *partd.CorruptError:
		paths = append(paths, e.Path)
	case *fs.PathError:
		paths = append(paths, e.Path)
	case *os.LinkError:
		paths = append(paths, e.Old, e.New)
	case *exec.Error:
		paths = append(paths, e.Name)
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		paths = appendPaths(paths, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			paths = appendPaths(paths, cause)
		}
	}
	return paths
}
