package worker

import (
	"syscall"
	"testing"
)

// Memory that a library keeps counts, though it is not in use: the limit counts it, too.
func TestGrown(t *testing.T) {
	const by = 64 << 20
	if Grown(by) {
		t.Fatal("nothing has grown yet")
	}
	kept, err := syscall.Mmap(-1, 0, 2*by, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(kept) //nolint:errcheck // it is
	if !Grown(by) {
		t.Error("it has not grown")
	}
}
