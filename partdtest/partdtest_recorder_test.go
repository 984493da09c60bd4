package partdtest

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestMain keeps package rapid from saving and shrinking the failures that these tests provoke.
func TestMain(m *testing.M) {
	procs.CollectLess()
	procs.AllowParallel()
	flag.Parse()
	for name, value := range map[string]string{"rapid.nofailfile": "true", "rapid.shrinktime": "0s"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// recorder is a tester that records failures instead of failing the test.
type recorder struct {
	t        *testing.T // passed to open
	name     string
	failures *failures

	mu     sync.Mutex
	failed bool
}

// failures holds the first message of each failed subtest, by the subtest's name.
type failures struct {
	mu       sync.Mutex
	messages map[string]string
	ran      map[string]bool // subtests that were run
	only     []string        // subtests to run; empty means all
}

// failuresOf runs the suite, or only some checks, and returns the failures.
func failuresOf(t *testing.T, s *suite, only ...string) *failures {
	recorded := &failures{messages: map[string]string{}, ran: map[string]bool{}, only: only}
	r := &recorder{t: t, failures: recorded}
	r.runInGoroutine(s.run)
	return recorded
}

// runInGoroutine runs f with r in a new goroutine, because FailNow ends the goroutine.
func (r *recorder) runInGoroutine(f func(t tester)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
}

func (r *recorder) Run(name string, f func(t tester)) bool {
	sub := &recorder{t: r.t, name: strings.TrimPrefix(r.name+"/"+name, "/"), failures: r.failures}
	if len(r.failures.only) > 0 && !slices.Contains(r.failures.only, name) {
		return true
	}
	r.failures.mu.Lock()
	r.failures.ran[sub.name] = true
	r.failures.mu.Unlock()
	sub.runInGoroutine(f)
	if sub.Failed() {
		r.Fail()
	}
	return !sub.Failed()
}

func (r *recorder) record(text string) {
	r.Fail()
	r.failures.mu.Lock()
	defer r.failures.mu.Unlock()
	if r.failures.messages[r.name] == "" {
		r.failures.messages[r.name] = text
	}
}

func (r *recorder) Fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) FailNow() {
	r.Fail()
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.record(fmt.Sprintf(format, args...))
	r.FailNow()
}

func (r *recorder) Fatal(args ...any) {
	r.record(fmt.Sprint(args...))
	r.FailNow()
}

func (r *recorder) Errorf(format string, args ...any) { r.record(fmt.Sprintf(format, args...)) }
func (r *recorder) Error(args ...any)                 { r.record(fmt.Sprint(args...)) }
func (r *recorder) Helper()                           {}
func (r *recorder) Name() string                      { return r.t.Name() + "/" + r.name }
func (r *recorder) Log(...any)                        {}
func (r *recorder) Logf(string, ...any)               {}
func (r *recorder) Skip(...any)                       { runtime.Goexit() }
func (r *recorder) Skipf(string, ...any)              { runtime.Goexit() }
func (r *recorder) SkipNow()                          { runtime.Goexit() }
func (r *recorder) testingT() *testing.T              { return r.t }

func withShortWaits(s *suite) *suite {
	s.hangTimeout = 2 * time.Second
	s.partsTime = time.Minute // also on a slow machine, the faults must show in all parts
	s.opts.Pieces = 50
	s.opts.LargeValue = 300_000
	return s
}
