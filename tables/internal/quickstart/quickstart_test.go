package quickstart

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestEnd checks that the garbage collector runs rarely before End, and as usual afterwards.
func TestEnd(t *testing.T) {
	if os.Getenv("GOGC") != "" {
		t.Skip("GOGC is set")
	}
	before := debug.SetGCPercent(startPercent)
	End()
	if after := debug.SetGCPercent(percent); before != startPercent || after != 100 {
		t.Errorf("the percentage was %d before End and %d after it, want %d and 100", before, after, startPercent)
	}
}
