//go:build race

package main

// withRace reports whether the race detector is enabled, which multiplies the memory of a process.
const withRace = true
