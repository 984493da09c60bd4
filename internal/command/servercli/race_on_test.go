//go:build race

package servercli_test

// withRace reports whether the race detector is enabled, which multiplies the memory of a process.
const withRace = true
