package partdtest

import (
	"os"
	"runtime"
	"time"
)

// resources counts the resources that a store can leak.
type resources struct{ goroutines, files int }

func countResources() resources {
	// Go opens its poller's descriptors when it first needs them. Open them now, so that they do
	// not look like a leak.
	if r, w, err := os.Pipe(); err == nil {
		_ = r.Close()
		_ = w.Close()
	}
	return resources{runtime.NumGoroutine(), openFiles()}
}

// openFiles returns the number of open descriptors, or 0 if it is unknown.
func openFiles() int {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// checkLeaks waits until the counts have returned to their values before the checks, and reports
// a leak if that takes more than four seconds.
func (before resources) checkLeaks(t tester) {
	var current resources
	for wait := time.Millisecond; wait < 4*time.Second; wait *= 2 {
		current = resources{runtime.NumGoroutine(), openFiles()}
		// One more goroutine runs this subtest.
		if current.goroutines <= before.goroutines+1 && current.files <= before.files {
			return
		}
		time.Sleep(wait)
	}
	if current.files > before.files {
		t.Errorf("%d files were open before the checks and %d afterwards: a store does not close its files", before.files, current.files)
	}
	if current.goroutines > before.goroutines+1 {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines ran before the checks and %d afterwards, although every store is closed:\n%s",
			before.goroutines+1, current.goroutines, stacks[:runtime.Stack(stacks, true)])
	}
}
