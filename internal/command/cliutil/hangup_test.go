package cliutil

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestCatchHangups checks that a SIGHUP before a server is ready does not end the process, and that the server reloads
// for it later.
func TestCatchHangups(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no SIGHUP")
	}
	start, stop := CatchHangups()
	defer stop()
	p := must.Get(os.FindProcess(os.Getpid()))(t)
	reloads := make(chan struct{})
	for range 2 {
		must.Do(t, p.Signal(syscall.SIGHUP))
		if start != nil {
			start(func() { reloads <- struct{}{} })
			start = nil
		}
		select {
		case <-reloads:
		case <-time.After(10 * time.Second):
			t.Fatal("reload was not called")
		}
	}
}
