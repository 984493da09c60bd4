package cliutil

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// TestCatchHangups checks that a SIGHUP before a server is ready does not end the process, and that the server reloads
// for it later.
func TestCatchHangups(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no SIGHUP")
	}
	start, stop := CatchHangups()
	defer stop()
	p, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	reloads := make(chan struct{})
	for range 2 {
		if err := p.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
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
