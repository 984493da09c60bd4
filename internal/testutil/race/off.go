//go:build !race

// Package race tells tests of the race detector, which multiplies the time and the
// memory that they take.
package race

// On reports whether the tests were built with the race detector.
const On = false
