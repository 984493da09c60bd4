//go:build !race

// Package race tells tests whether the race detector runs, which multiplies their
// time and memory.
package race

// On reports whether the tests were built with the race detector.
const On = false
