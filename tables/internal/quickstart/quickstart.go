// Package quickstart makes commands start faster. When a program starts, Iceberg's library parses Substrait's list of
// functions, which takes 70 ms. The library needs the functions only to evaluate filters of its own scans, which
// partd-tables never does. So this package replaces the list with an empty one. It also opens the database of the
// command "sql" while the program starts. Only programs may import this package.
//
// Among the packages whose imports are already initialized, Go initializes the one with the lowest path first. This
// package imports no package that uses the list, so it is initialized before these packages. If another version of
// Substrait's library renames the variable, nothing is replaced, and this package's test fails.
package quickstart

import (
	"strings"
	_ "unsafe" // for go:linkname

	"github.com/substrait-io/substrait-go/v8/extensions"
)

//go:linkname loadDefaults github.com/substrait-io/substrait-go/v8/extensions.getDefaultCollectionOnce
var loadDefaults func() (*extensions.Collection, error)

func init() {
	loadDefaults = func() (*extensions.Collection, error) {
		var empty extensions.Collection
		return &empty, empty.Load("none", strings.NewReader("urn: extension:partd:none"))
	}
}
