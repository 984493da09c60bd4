//go:build race

package race

// On reports whether the tests were built with the race detector.
const On = true
