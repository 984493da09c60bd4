package partdtest

import (
	"os"
	"runtime"
	"time"
)

// leakable counts the resources that a store can leak.
type leakable struct{ goroutines, files int }

func countLeakable() leakable {
	// Go opens its own files when it first waits for one. Make it do so now.
	if r, w, err := os.Pipe(); err == nil {
		_ = r.Close()
		_ = w.Close()
	}
	return leakable{runtime.NumGoroutine(), openFiles()}
}

// openFiles returns the number of open descriptors, or 0 if it is unknown.
func openFiles() int {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// compare waits until no more resources are in use than before, and reports a leak if that takes too
// long.
func (before leakable) compare(t tester) {
	var now leakable
	for wait := time.Millisecond; wait < 4*time.Second; wait *= 2 {
		now = leakable{runtime.NumGoroutine(), openFiles()}
		// The subtest itself runs in another goroutine.
		if now.goroutines <= before.goroutines+1 && now.files <= before.files {
			return
		}
		time.Sleep(wait)
	}
	if now.files > before.files {
		t.Errorf("%d files were open before the checks and %d afterwards: a store does not close its files", before.files, now.files)
	}
	if now.goroutines > before.goroutines+1 {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines ran before the checks and %d afterwards, although every store is closed:\n%s",
			before.goroutines+1, now.goroutines, stacks[:runtime.Stack(stacks, true)])
	}
}
