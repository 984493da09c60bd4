//go:build race

package cli

// raceDetector says that the tests were built with it: it takes memory of its own.
const raceDetector = true
