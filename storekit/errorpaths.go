package storekit

import (
	"cmp"
	"io/fs"
	"os"
	"slices"

	"github.com/go-partd/partd"
)

// ErrorPaths returns the paths of files in an error and its causes, without duplicates and the longest first. A server
// can remove them, in this order, from the errors that it sends to clients.
func ErrorPaths(err error) []string {
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
