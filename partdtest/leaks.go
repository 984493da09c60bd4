package partdtest

import (
	"os"
	"runtime"
	"time"
)

type resources struct{ goroutines, files int }

func countResources() resources {
	// Open a pipe, so that the Go runtime opens its network poller's descriptors now. If they were
	// opened later, they would look like a leak.
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

// checkLeaks reports a leak if, even after about four seconds, more goroutines or files exist than
// before the checks.
func (before resources) checkLeaks(t tester) {
	var current resources
	for wait := time.Millisecond; wait < 4*time.Second; wait *= 2 {
		current = resources{runtime.NumGoroutine(), openFiles()}
		// One more goroutine is normal: it runs this subtest.
		if current.goroutines <= before.goroutines+1 && current.files <= before.files {
			return
		}
		time.Sleep(wait)
	}
	if current.files > before.files {
		t.Errorf("%d files were open before the checks, but %d afterwards: a store has not closed its files", before.files, current.files)
	}
	if current.goroutines > before.goroutines+1 {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines ran before the checks, but %d afterwards, although every store is closed:\n%s",
			before.goroutines+1, current.goroutines, stacks[:runtime.Stack(stacks, true)])
	}
}
