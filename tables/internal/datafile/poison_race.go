//go:build race

package datafile

// poison overwrites recycled memory, so that tests with the race detector fail if anything still reads it.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xa5
	}
}
