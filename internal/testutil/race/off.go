//go:build !race

// Package race tells tests whether they run under the race detector, which multiplies
// their time and memory.
package race

// Enabled reports whether the race detector is enabled.
const Enabled = false
