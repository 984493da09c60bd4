package partdtest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"github.com/go-partd/partd"
)

// concurrentChecks returns checks with many goroutines that append while others read.
func concurrentChecks() []check {
	return []check{
		{name: "concurrent-append", run: concurrentAppend},
		{name: "concurrent-append-while-reading", run: appendWhileReading},
		{name: "concurrent-append-to-new-keys", run: appendToNewKeys},
	}
}

const (
	writers         = 6
	appendsEach     = 120
	keysTogether    = 4
	longestSequence = 1 << 30
)

// appender is one of several goroutines that append to the same keys.
type appender struct {
	e      *env
	writer int
	counts [keysTogether]int // pieces written, by key
	clock  *atomic.Int64
	spans  map[spanKey]span
}

type spanKey struct {
	key string
	piece
}

// span is the time of an append, by a clock that all appenders share.
type span struct{ begin, end int64 }

func sharedKey(i int) string { return fmt.Sprintf("shared/%d", i) }

// batch returns the writer's n-th batch: two keys, or two keys with one of them repeated.
func (a *appender) batch(n int) ([]partd.Entry, []spanKey) {
	var entries []partd.Entry
	var pieces []spanKey
	keys := []int{(a.writer + n) % keysTogether, (a.writer + 2*n + 1) % keysTogether}
	if n%5 == 0 {
		keys = append(keys, keys[0])
	}
	for _, k := range keys {
		p := piece{a.writer, a.counts[k]}
		a.counts[k]++
		entries = append(entries, partd.Entry{Key: sharedKey(k), Value: p.bytes()})
		pieces = append(pieces, spanKey{sharedKey(k), p})
	}
	return entries, pieces
}

func (a *appender) run() error {
	for n := range appendsEach {
		entries, pieces := a.batch(n)
		begin := a.clock.Add(1)
		if err := a.e.store.Append(a.e.ctx, entries...); err != nil {
			return fmt.Errorf("append: %w", err)
		}
		end := a.clock.Add(1)
		for _, m := range pieces {
			a.spans[m] = span{begin, end}
		}
		if n%10 != 0 {
			continue
		}
		values, err := a.e.store.Get(a.e.ctx, entries[0].Key)
		if err != nil {
			return fmt.Errorf("get: %w", err)
		}
		next, err := checkPieces("Get of "+entries[0].Key, values[0])
		if err != nil {
			return err
		}
		if last := pieces[0].number; next[a.writer] <= last {
			return fmt.Errorf("writer %d: Get after Append returned does not have append %d of key %s", a.writer, last, pieces[0].key)
		}
	}
	return nil
}

func newAppenders(e *env) ([]*appender, []func() error) {
	var clock atomic.Int64
	var all []*appender
	var run []func() error
	for w := range writers {
		a := &appender{e: e, writer: w, clock: &clock, spans: map[spanKey]span{}}
		all = append(all, a)
		run = append(run, a.run)
	}
	return all, run
}

// checkAppenders checks the store after all appenders have finished: every append is there once,
// whole, in each writer's order, and none comes before an append that had returned when it began.
func checkAppenders(e *env, all []*appender) {
	e.Helper()
	want := model{}
	for k := range keysTogether {
		key := sharedKey(k)
		value := e.get(key)[0]
		want[key] = string(value)
		next, err := checkPieces("Get of "+key, value)
		e.must("after all writers have finished", err)
		for _, a := range all {
			if next[a.writer] != a.counts[k] {
				e.Fatalf("key %s has %d of the %d appends of writer %d", key, next[a.writer], a.counts[k], a.writer)
			}
		}
		pieces, err := parsePieces(value)
		e.must("after all writers have finished", err)
		latest := int64(0)
		for _, p := range pieces {
			s := all[p.writer].spans[spanKey{key, p}]
			if s.end < latest {
				e.Fatalf("key %s: append %d of writer %d comes after an append that began only when it had returned", key, p.number, p.writer)
			}
			latest = max(latest, s.begin)
		}
	}
	e.want("after all writers have finished", want)
	if e.reopen() {
		e.want("after reopening", want)
	}
}

func concurrentAppend(e *env) {
	all, run := newAppenders(e)
	e.concurrently(run...)
	checkAppenders(e, all)
}

func appendWhileReading(e *env) {
	all, run := newAppenders(e)
	readers := []func() error{e.growingGets(1), e.growingGets(2)}
	if e.suite.can[CanList] {
		readers = append(readers, e.growingKeys())
	}
	if e.suite.can[CanScan] {
		readers = append(readers, e.scansOfPieces())
	}
	if e.suite.can[CanOpen] {
		readers = append(readers, func() error {
			v, err := openAll(e.ctx, e.store, sharedKey(1), 300)
			if err == nil {
				_, err = checkPieces("Open of "+sharedKey(1), v)
			}
			return err
		})
	}
	if e.suite.can[CanFlush] {
		readers = append(readers, func() error { return partd.Flush(e.ctx, e.store) })
	}
	if e.suite.can[CanSync] {
		readers = append(readers, func() error { return partd.Sync(e.ctx, e.store) })
	}
	e.whileRunning(run, readers)
	checkAppenders(e, all)
}

// growingGets gets keys. Each value must be whole appends, and must begin with the value that the
// same goroutine saw before.
func (e *env) growingGets(seed uint64) func() error {
	rnd := rand.New(rand.NewPCG(seed, 0))
	before := map[string][]byte{}
	return func() error {
		a, b := sharedKey(rnd.IntN(keysTogether)), sharedKey(rnd.IntN(keysTogether))
		values, err := e.store.Get(e.ctx, a, b)
		if err != nil {
			return fmt.Errorf("get: %w", err)
		}
		for i, k := range []string{a, b} {
			if i == 1 && a == b {
				continue // the order of two values in one Get is unknown
			}
			if _, err := checkPieces("Get of "+k, values[i]); err != nil {
				return err
			}
			if !bytes.HasPrefix(values[i], before[k]) {
				return fmt.Errorf("get of %s does not begin with what an earlier Get returned", k)
			}
			before[k] = values[i]
		}
		return nil
	}
}

func (e *env) growingKeys() func() error {
	before := map[string]int64{}
	return func() error {
		sizes, err := listKeys(e.ctx, e.store)
		if err != nil {
			return err
		}
		for k, size := range before {
			if sizes[k] < size {
				return fmt.Errorf("keys during appends: key %s has %d bytes, but had %d before", k, sizes[k], size)
			}
		}
		before = sizes
		return nil
	}
}

func (e *env) scansOfPieces() func() error {
	return func() error {
		all, err := scanAll(e.ctx, e.store)
		if err != nil {
			return err
		}
		for k, v := range all {
			if _, err := checkPieces("Scan during appends, key "+k, v); err != nil {
				return err
			}
		}
		return nil
	}
}

// appendToNewKeys creates keys concurrently, each from several goroutines.
func appendToNewKeys(e *env) {
	keys := numberedKeys(300)
	var run []func() error
	for w := range writers {
		run = append(run, func() error {
			for _, k := range keys {
				if err := e.store.Append(e.ctx, partd.Entry{Key: k, Value: piece{w, 0}.bytes()}); err != nil {
					return fmt.Errorf("append: %w", err)
				}
			}
			return nil
		})
	}
	e.concurrently(run...)
	want := model{}
	for i, v := range e.get(keys...) {
		k := keys[i]
		next, err := checkPieces("Get of "+k, v)
		e.must("after all writers have finished", err)
		if len(next) != writers {
			e.Fatalf("key %s has appends of %d writers, want %d", k, len(next), writers)
		}
		want[k] = string(v)
	}
	e.want("after all writers have finished", want)
}
