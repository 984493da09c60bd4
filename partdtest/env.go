package partdtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// env is the environment of a check: the test, a store for this check only, and the content that the
// store should have. Methods that change the store also change the model.
type env struct {
	tester
	suite  *suite
	ctx    context.Context
	store  partd.Partd
	model  model
	closed bool // the store is closed or hangs, so close must not close it
}

func (s *suite) newEnv(ctx context.Context, t tester) *env {
	e := &env{tester: t, suite: s, ctx: ctx, store: s.open(t.testingT()), model: model{}}
	if e.store == nil {
		t.Fatalf("open returned a nil store")
	}
	return e
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
	values := make([]string, len(entries))
	for i := range entries {
		values[i] = string(entries[i].Value)
	}
	e.model.append(entries...)
	e.must("Append", e.store.Append(e.ctx, entries...))
	for i, value := range values {
		e.mustKeep("Append", entries[i].Value, value)
	}
}

// mustKeep checks that a call has not changed a value that it received.
func (e *env) mustKeep(call string, value []byte, before string) {
	e.Helper()
	e.must(call+" must not change the values that it receives", differenceError("afterwards", value, before))
}

func (e *env) set(key, value string) {
	e.Helper()
	passed := []byte(value)
	e.must("Set", partd.Set(e.ctx, e.store, key, passed))
	e.mustKeep("Set", passed, value)
	e.model[key] = value
}

func (e *env) setOnce(key, value string) {
	e.Helper()
	passed := []byte(value)
	e.must("SetOnce", partd.SetOnce(e.ctx, e.store, key, passed))
	e.mustKeep("SetOnce", passed, value)
	if _, exists := e.model[key]; !exists {
		e.model[key] = value
	}
}

func (e *env) delete(keys ...string) {
	e.Helper()
	e.must(fmt.Sprintf("Delete of the keys %.80q", keys), partd.Delete(e.ctx, e.store, keys...))
	e.model.delete(keys...)
}

// pop removes keys and checks that Pop returns their values.
func (e *env) pop(keys ...string) [][]byte {
	e.Helper()
	values, err := partd.Pop(e.ctx, e.store, keys...)
	e.must("Pop", err)
	e.checkValues("Pop must return the values in the order of the requested keys", keys, values)
	e.model.delete(keys...)
	return values
}

func (e *env) drop() {
	e.Helper()
	e.must("Drop", e.store.Drop(e.ctx))
	clear(e.model)
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

// checkGet checks that Get returns the values of the model.
func (e *env) checkGet(keys ...string) [][]byte {
	e.Helper()
	values := e.get(keys...)
	e.checkValues("Get must return the values in the order of the requested keys", keys, values)
	return values
}

func (e *env) checkValues(label string, keys []string, values [][]byte) {
	e.Helper()
	if len(values) != len(keys) {
		e.Fatalf("%s: %d values for %d keys", label, len(values), len(keys))
	}
	for i, k := range keys {
		e.must(label, differenceError("key "+storekit.QuoteKey(k), values[i], e.model[k]))
	}
}

// checkOpen checks that Open returns the value that a key has in the model. It reads size bytes at a
// time.
func (e *env) checkOpen(key string, size int) {
	e.Helper()
	value, err := openAll(e.ctx, e.store, key, size)
	e.must("Open", err)
	e.must("Open", differenceError("Open of key "+storekit.QuoteKey(key), value, e.model[key]))
}

// check reports a test failure if the store's content differs from the model.
func (e *env) check(label string) {
	e.Helper()
	e.must(label, compare(e.ctx, e.store, e.suite.can, e.model))
}

// expectModel replaces the model with m, after changes that were not made with the methods of e, and then
// checks the store's content.
func (e *env) expectModel(label string, m model) {
	e.Helper()
	e.model = model{}
	maps.Copy(e.model, m)
	e.check(label)
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

func (e *env) checkReopened() {
	e.Helper()
	if e.reopen() {
		e.check("after reopening")
	}
}

// operation is a call to one of the store's methods.
type operation struct {
	name string
	call func() error
}

// expectFailures checks that each operation, if the store supports it, fails with an error that
// isExpected accepts. rule follows the operation's name in the message of a test failure.
func (e *env) expectFailures(rule string, isExpected func(error) bool, operations []operation) {
	e.Helper()
	for _, op := range operations {
		if err := op.call(); !isExpected(err) && !errors.Is(err, errors.ErrUnsupported) {
			e.Errorf("%s %s, but returned the error %v", op.name, rule, err)
		}
		if !e.closed {
			e.check(op.name + " must change nothing if it fails")
		}
	}
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
		e.Fatalf("%s has not finished after %v; possibly a deadlock", label, e.suite.hangTimeout)
	}
}

// checkUsable runs f and then checks that the store still works. label describes f.
func (e *env) checkUsable(label string, f func() error) {
	e.Helper()
	added := entry("a", "1")
	e.withTimeout("use of the store after "+label, func() error {
		if err := f(); err != nil {
			return err
		}
		return e.store.Append(e.ctx, added)
	})
	e.model.append(added)
	e.check("after " + label)
}

// breakOut ranges over an iterator and breaks out of the loop when stop returns true. n is the
// number of the item, from 1.
func breakOut[T any](items iter.Seq2[T, error], stop func(n int, item T) bool) error {
	n := 0
	for item, err := range items {
		if err != nil {
			return err
		}
		n++
		if stop(n, item) {
			break
		}
	}
	return nil
}

// breakAfter opens a new iterator for each limit and breaks out of it after that number of items.
func breakAfter[T any](list func() iter.Seq2[T, error], limits ...int) error {
	for _, limit := range limits {
		if err := breakOut(list(), func(n int, _ T) bool { return n == limit }); err != nil {
			return err
		}
	}
	return nil
}

// each calls visit for each item of an iterator. An iterator must not continue after an error.
func each[T any](name string, items iter.Seq2[T, error], visit func(T) error) error {
	var itemsErr error
	for item, err := range items {
		if itemsErr != nil {
			return fmt.Errorf("the %s iterator continues after the error %q", name, itemsErr)
		}
		itemsErr = err
		if err != nil {
			continue
		}
		if err := visit(item); err != nil {
			return err
		}
	}
	if itemsErr != nil {
		return fmt.Errorf("%s: %w", strings.ToLower(name), itemsErr)
	}
	return nil
}

// checkCancelled cancels an iterator's context after the first item. The iterator must either end
// with a correct error or yield all items, so that the results of count add up to total.
func checkCancelled[T any](e *env, name string, total int, list func(context.Context) iter.Seq2[T, error], count func(T) int) {
	e.Helper()
	ctx, cancel := context.WithCancelCause(e.ctx)
	defer cancel(nil)
	counted := 0
	err := each(name, list(ctx), func(item T) error {
		counted += count(item)
		cancel(errSibling)
		return nil
	})
	if err == nil && counted != total || err != nil && !isCancelledError(err) {
		e.Fatalf("%s, cancelled after the first item, yielded %d of %d and the error %v", name, counted, total, err)
	}
}

func (e *env) concurrently(fs ...func() error) {
	e.Helper()
	if err := runAll(fs); err != nil {
		e.Fatalf("%v", err)
	}
}

func runAll(fs []func() error) error {
	errs := make([]error, len(fs))
	var wg sync.WaitGroup
	for i, f := range fs {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// indexedCalls returns n functions; function i calls run(i).
func indexedCalls(n int, run func(i int) error) []func() error {
	fs := make([]func() error, n)
	for i := range fs {
		fs[i] = func() error { return run(i) }
	}
	return fs
}

func writerCalls(run func(w int) error) []func() error { return indexedCalls(writers, run) }

// whileRunning runs writers concurrently, and each reader repeatedly until the writers have finished.
func (e *env) whileRunning(writers []func() error, readers ...func() error) {
	e.Helper()
	done := make(chan struct{})
	fs := []func() error{func() error {
		defer close(done)
		return runAll(writers)
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

// randomText returns n pseudorandom bytes that depend only on the seed.
func randomText(n int, seed uint64) string {
	b := make([]byte, 0, n+7)
	for rnd := rand.New(rand.NewPCG(seed, 0)); len(b) < n; {
		b = binary.LittleEndian.AppendUint64(b, rnd.Uint64())
	}
	return string(b[:n])
}

func numberedKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("key %d", i)
	}
	return keys
}

// fill appends values to n keys. Every tenth value is large.
func (e *env) fill(n int) {
	e.Helper()
	var batch []partd.Entry
	for i, k := range numberedKeys(n) {
		batch = append(batch, entry(k, randomText(1+i%50+i%10/9*100_000, uint64(i))))
	}
	e.append(batch...)
}

// repeat returns the first n bytes of s repeated without end.
func repeat(s string, n int) string {
	return string(bytes.Repeat([]byte(s), n/len(s)+1)[:n])
}

// overwrite overwrites a value that belongs to the caller, and the memory after it.
func overwrite(value []byte) {
	for i := range value {
		value[i] = '!'
	}
	_ = append(value, "what follows in memory"...)
}
