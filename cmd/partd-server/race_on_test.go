//go:build race

package main

// withRace says that the race detector is on, which multiplies the memory that a process takes.
const withRace = true
