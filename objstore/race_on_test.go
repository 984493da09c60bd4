//go:build race

package objstore

// The race detector takes several times the memory of what it watches.
func init() { underRace = true }
