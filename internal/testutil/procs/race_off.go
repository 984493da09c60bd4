//go:build !race

package procs

// RaceEnabled reports whether the race detector is enabled, which multiplies a test's time and memory.
const RaceEnabled = false
