// Package quickstart makes commands start faster. Go initializes this package before most others, because it imports
// little. Iceberg's library then parses its list of functions, for which the garbage collector would run ten times.
package quickstart

import (
	"os"
	"runtime/debug"
	"slices"
)

const startPercent = 800

var percent = -1 // the garbage collector's percentage to restore; -1 if it was not changed

// A server keeps the memory that it needs at its start, so it starts as usual.
func init() {
	if os.Getenv("GOGC") == "" && !slices.Contains(os.Args, "serve") && !slices.Contains(os.Args, "pull") {
		percent = debug.SetGCPercent(startPercent)
	}
}

// End restores the garbage collector's percentage. Call it first in main.
func End() {
	if percent >= 0 {
		debug.SetGCPercent(percent)
	}
}
