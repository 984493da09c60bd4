package tabletest

import "testing"

// ballast makes the garbage collector start after 64 MiB of allocations instead of 4. The live heap of most tests is so
// small that the collector would use a fifth of the processor time. Untouched pages need no memory.
//
//lint:ignore U1000 only its size matters
var ballast []byte

func init() {
	if testing.Testing() {
		ballast = make([]byte, 64<<20)
	}
}
