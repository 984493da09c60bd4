//go:build !race

package cli

// raceDetector says that the tests were built without it.
const raceDetector = false
