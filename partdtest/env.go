package partdtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-partd/partd"
)

// env is the environment of a check: the test, and a store for this check only.
type env struct {
	tester
	suite  *suite
	ctx    context.Context
	store  partd.Partd
	closed bool // close must not close the store
}

func (e *env) close() {
	if e.closed || !e.suite.can[CanClose] {
		return
	}
	e.closed = true
	if err := partd.Close(e.ctx, e.store); err != nil {
		e.Errorf("Close: %v", err)
	}
}

func (e *env) must(label string, err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s: %v", label, err)
	}
}

func (e *env) append(entries ...partd.Entry) {
	e.Helper()
	e.must("Append", e.store.Append(e.ctx, entries...))
}

func (e *env) set(key, value string) {
	e.Helper()
	e.must("Set", partd.Set(e.ctx, e.store, key, []byte(value)))
}

func (e *env) get(keys ...string) [][]byte {
	e.Helper()
	values, err := e.store.Get(e.ctx, keys...)
	e.must("Get", err)
	if len(values) != len(keys) {
		e.Fatalf("Get of %d keys returned %d values", len(keys), len(values))
	}
	return values
}

// want fails the check if the store's content differs from m.
func (e *env) want(label string, m model) {
	e.Helper()
	if err := compare(e.ctx, e.store, e.suite.can, m); err != nil {
		e.Fatalf("%s: %v", label, err)
	}
}

// reopen closes the store and opens it again. It returns false if Options.Reopen is nil.
func (e *env) reopen() bool {
	if e.suite.opts.Reopen == nil {
		return false
	}
	e.store = e.suite.opts.Reopen(e.testingT(), e.store)
	if e.store == nil {
		e.closed = true
		e.Fatalf("Reopen returned a nil store")
	}
	return true
}

// withTimeout runs f. If f returns an error or hangs, withTimeout fails the check.
func (e *env) withTimeout(label string, f func() error) {
	e.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		e.must(label, err)
	case <-time.After(e.suite.hangTimeout):
		e.closed = true // closing would hang too
		e.Fatalf("%s: not finished after %v; possibly a deadlock", label, e.suite.hangTimeout)
	}
}

func (e *env) concurrently(fs ...func() error) {
	e.Helper()
	errs := make([]error, len(fs))
	var wg sync.WaitGroup
	for i, f := range fs {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		e.Fatalf("%v", err)
	}
}

// whileRunning runs writers concurrently, and each reader repeatedly until the writers have finished.
func (e *env) whileRunning(writers, readers []func() error) {
	e.Helper()
	done := make(chan struct{})
	fs := []func() error{func() error {
		defer close(done)
		errs := make([]error, len(writers))
		var wg sync.WaitGroup
		for i, w := range writers {
			wg.Go(func() { errs[i] = w() })
		}
		wg.Wait()
		return errors.Join(errs...)
	}}
	for _, r := range readers {
		fs = append(fs, func() error {
			for {
				if err := r(); err != nil {
					return err
				}
				select {
				case <-done:
					return r() // read the final content
				default:
				}
			}
		})
	}
	e.concurrently(fs...)
}

func entry(key, value string) partd.Entry { return partd.Entry{Key: key, Value: []byte(value)} }

// randomBytes returns n pseudo-random bytes, which are always the same for a seed.
func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, 0, n+7)
	for rnd := rand.New(rand.NewPCG(seed, 0)); len(b) < n; {
		b = binary.LittleEndian.AppendUint64(b, rnd.Uint64())
	}
	return b[:n]
}

func numberedKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("key %d", i)
	}
	return keys
}

// repeat returns the first n bytes of s repeated without end.
func repeat(s string, n int) string {
	return string(bytes.Repeat([]byte(s), n/len(s)+1)[:n])
}
