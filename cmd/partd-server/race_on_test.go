//go:build race

package main

// withRace reports whether the race detector is on. It multiplies the memory of a
// process.
const withRace = true
