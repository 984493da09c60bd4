package partdtest

import (
	"os"
	"runtime"
	"time"
)

// leakable is what a store can forget to give back.
type leakable struct{ goroutines, files int }

func countLeakable() leakable {
	// Go opens files of its own when it first waits for one; make it do so now.
	if r, w, err := os.Pipe(); err == nil {
		_ = r.Close()
		_ = w.Close()
	}
	return leakable{runtime.NumGoroutine(), openFiles()}
}

// openFiles counts the descriptors of this process, 0 where that is not known.
func openFiles() int {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// compare waits until there is no more than before, or no hope for it.
func (before leakable) compare(t tester) {
	var now leakable
	for wait := time.Millisecond; wait < 4*time.Second; wait *= 2 {
		now = leakable{runtime.NumGoroutine(), openFiles()}
		// The subtest itself runs in a goroutine of its own.
		if now.goroutines <= before.goroutines+1 && now.files <= before.files {
			return
		}
		time.Sleep(wait)
	}
	if now.files > before.files {
		t.Errorf("%d files were open before the checks, %d are afterwards: a store forgets to close some", before.files, now.files)
	}
	if now.goroutines > before.goroutines+1 {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines ran before the checks, %d do afterwards, though every store is closed:\n%s",
			before.goroutines+1, now.goroutines, stacks[:runtime.Stack(stacks, true)])
	}
}
