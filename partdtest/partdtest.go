// Package partdtest checks that a store keeps the promises of package partd.
// Use it when you write a store, or a layer over one:
//
//	func TestMyStore(t *testing.T) {
//		partdtest.Run(t, func(t *testing.T) partd.Partd { return mystore.New() }, nil)
//	}
//
// [Run] runs named subtests for each promise, for unusual keys and values, and for concurrent use. It
// skips the checks of abilities that the store lacks, unless Options.Require lists them.
// [StateMachine], which Run also calls, compares a store with a map over random operations.
package partdtest

import (
	"context"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"pgregory.net/rapid"
)

// Run checks a store. It calls open for each check, and open must return an empty store. Run closes
// the stores that can be closed. For other cleanup, open should use t.TempDir and t.Cleanup.
//
// At the end, Run looks for leaked goroutines and open files, so no other
// test should run at the same time.
func Run(t *testing.T, open func(t *testing.T) partd.Partd, opts *Options) {
	t.Helper()
	newSuite(open, opts).run(realTester{t})
}

// StateMachine compares a store with a map over random sequences of operations,
// using package rapid. The test flags -rapid.checks and -rapid.steps set the
// number of sequences and their average length, by default 100 and 30.
func StateMachine(t *testing.T, open func(t *testing.T) partd.Partd, opts *Options) {
	t.Helper()
	s := newSuite(open, opts)
	top := realTester{t}
	if top.Run("abilities", s.probe) {
		s.probeOnce(top)
		top.Run("state-machine", s.runMachine)
	}
}

// tester has the methods of testing.T that the suite uses. This package's own tests implement it to
// record the failures of faulty stores.
type tester interface {
	rapid.TB
	Run(name string, f func(t tester)) bool
	// testingT returns the test that is passed to open and to the functions in Options.
	testingT() *testing.T
}

type realTester struct{ *testing.T }

func (r realTester) testingT() *testing.T { return r.T }

func (r realTester) Run(name string, f func(t tester)) bool {
	return r.T.Run(name, func(t *testing.T) { f(realTester{t}) })
}

type suite struct {
	opts        Options
	open        func(t *testing.T) partd.Partd
	can         map[Ability]bool // filled in by probe
	hangTimeout time.Duration    // time after which a call counts as hanging
	partsTime   time.Duration    // time for scanning all parts
}

func newSuite(open func(t *testing.T) partd.Partd, opts *Options) *suite {
	s := &suite{open: open, hangTimeout: 30 * time.Second, partsTime: 5 * time.Second}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.LargeValue == 0 {
		s.opts.LargeValue = 8 << 20
	}
	if s.opts.Pieces == 0 {
		s.opts.Pieces = 300
	}
	return s
}

func (s *suite) run(t tester) {
	if !t.Run("abilities", s.probe) {
		return // all checks would fail for the same reason
	}
	s.probeOnce(t)
	before := countResources()
	for _, c := range checks() {
		t.Run(c.name, func(t tester) { s.runCheck(t, c) })
	}
	t.Run("state-machine", s.runMachine)
	t.Run("leaks", func(t tester) { before.checkLeaks(t) })
}

// probeOnce runs probe, unless it has already run. The flag -run can exclude the subtest "abilities",
// which usually runs probe.
func (s *suite) probeOnce(t tester) {
	if s.can == nil {
		s.probe(t)
	}
}

func (s *suite) runCheck(t tester, c check) {
	if c.needs != "" && !s.can[c.needs] {
		t.Logf("not checked: the store cannot %s", c.needs)
		return
	}
	// A store that hangs, but observes its context, fails after this time.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	e := s.newEnv(ctx, t)
	defer e.close()
	c.run(e)
}
