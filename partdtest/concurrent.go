package partdtest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"github.com/go-partd/partd"
)

const (
	writers          = 6
	appendsPerWriter = 120
	sharedKeyCount   = 4
)

// appender appends to the shared keys while other appenders do the same.
type appender struct {
	e      *env
	writer int
	counts [sharedKeyCount]int // number of pieces appended to each key
	clock  *atomic.Int64       // shared by all appenders; ticks when an append begins or ends
	spans  map[keyedPiece]span // when each piece was appended
}

type keyedPiece struct {
	key string
	piece
}

// span contains the values of appender.clock when an append began and ended.
type span struct{ begin, end int64 }

func sharedKey(i int) string { return fmt.Sprintf("shared/%d", i) }

// batch returns the writer's n-th batch: two keys, or two keys with one of them repeated.
func (a *appender) batch(n int) ([]partd.Entry, []keyedPiece) {
	var entries []partd.Entry
	var pieces []keyedPiece
	keys := []int{(a.writer + n) % sharedKeyCount, (a.writer + 2*n + 1) % sharedKeyCount}
	if n%5 == 0 {
		keys = append(keys, keys[0])
	}
	for _, k := range keys {
		p := piece{a.writer, a.counts[k]}
		a.counts[k]++
		entries = append(entries, p.entry(sharedKey(k)))
		pieces = append(pieces, keyedPiece{sharedKey(k), p})
	}
	return entries, pieces
}

func (a *appender) run() error {
	for n := range appendsPerWriter {
		entries, pieces := a.batch(n)
		begin := a.clock.Add(1)
		if err := a.e.store.Append(a.e.ctx, entries...); err != nil {
			return fmt.Errorf("append: %w", err)
		}
		end := a.clock.Add(1)
		for _, p := range pieces {
			a.spans[p] = span{begin, end}
		}
		if n%10 != 0 {
			continue
		}
		values, err := a.e.store.Get(a.e.ctx, entries[0].Key)
		if err != nil {
			return fmt.Errorf("get: %w", err)
		}
		nextNumbers, err := checkPieces("Get of "+entries[0].Key, values[0])
		if err != nil {
			return err
		}
		if number := pieces[0].number; nextNumbers[a.writer] <= number {
			return fmt.Errorf("writer %d: append %d to key %s has returned, but Get does not show it", a.writer, number, pieces[0].key)
		}
	}
	return nil
}

func newAppenders(e *env) ([]*appender, []func() error) {
	var clock atomic.Int64
	appenders := make([]*appender, writers)
	for w := range appenders {
		appenders[w] = &appender{e: e, writer: w, clock: &clock, spans: map[keyedPiece]span{}}
	}
	return appenders, writerCalls(func(w int) error { return appenders[w].run() })
}

// checkAppenders checks the store after all appenders have finished. The store must contain every
// append once. If an append began after another append had returned, it must come later in the
// value.
func checkAppenders(e *env, appenders []*appender) {
	e.Helper()
	for k := range sharedKeyCount {
		key := sharedKey(k)
		value := e.get(key)[0]
		e.model[key] = string(value)
		nextNumbers, err := checkPieces("Get of "+key, value)
		e.must("after all writers have finished", err)
		for _, a := range appenders {
			if nextNumbers[a.writer] != a.counts[k] {
				e.Fatalf("key %s holds %d of writer %d's %d appends", key, nextNumbers[a.writer], a.writer, a.counts[k])
			}
		}
		pieces, err := parsePieces(value)
		e.must("after all writers have finished", err)
		latest := int64(0)
		for _, p := range pieces {
			s := appenders[p.writer].spans[keyedPiece{key, p}]
			if s.end < latest {
				e.Fatalf("key %s: append %d of writer %d is stored after another append, which began only when append %[2]d had returned", key, p.number, p.writer)
			}
			latest = max(latest, s.begin)
		}
	}
	e.check("after all writers have finished")
	e.checkReopened()
}

func concurrentAppend(e *env) {
	appenders, runs := newAppenders(e)
	e.concurrently(runs...)
	checkAppenders(e, appenders)
}

func appendWhileReading(e *env) {
	appenders, runs := newAppenders(e)
	readers := []func() error{e.getReader(1), e.getReader(2)}
	if e.suite.can[CanList] {
		readers = append(readers, e.keysReader())
	}
	if e.suite.can[CanScan] {
		readers = append(readers, e.scanReader())
	}
	if e.suite.can[CanOpen] {
		readers = append(readers, func() error {
			v, err := openAll(e.ctx, e.store, sharedKey(1), 300)
			if err != nil {
				return err
			}
			_, err = checkPieces("Open of "+sharedKey(1), v)
			return err
		})
	}
	if e.suite.can[CanFlush] {
		readers = append(readers, func() error { return partd.Flush(e.ctx, e.store) })
	}
	if e.suite.can[CanSync] {
		readers = append(readers, func() error { return partd.Sync(e.ctx, e.store) })
	}
	e.whileRunning(runs, readers...)
	checkAppenders(e, appenders)
}

// getReader returns a function that gets two of the shared keys. Each value must consist of whole
// appends and begin with the value that an earlier call read.
func (e *env) getReader(seed uint64) func() error {
	rnd := rand.New(rand.NewPCG(seed, 0))
	previous := map[string][]byte{}
	return func() error {
		a, b := sharedKey(rnd.IntN(sharedKeyCount)), sharedKey(rnd.IntN(sharedKeyCount))
		values, err := e.store.Get(e.ctx, a, b)
		if err != nil {
			return fmt.Errorf("get: %w", err)
		}
		for i, k := range []string{a, b} {
			if i == 1 && a == b {
				continue // Get may read the values of a and b in any order
			}
			if _, err := checkPieces("Get of "+k, values[i]); err != nil {
				return err
			}
			if !bytes.HasPrefix(values[i], previous[k]) {
				return fmt.Errorf("get of %s: the value does not begin with the value of an earlier Get", k)
			}
			previous[k] = values[i]
		}
		return nil
	}
}

func (e *env) keysReader() func() error {
	previous := map[string]int64{}
	return func() error {
		sizes, err := listKeys(e.ctx, e.store)
		if err != nil {
			return err
		}
		for k, size := range previous {
			if sizes[k] < size {
				return fmt.Errorf("keys during appends: key %s has %d bytes, but had %d earlier", k, sizes[k], size)
			}
		}
		previous = sizes
		return nil
	}
}

func (e *env) scanReader() func() error {
	return func() error {
		values, err := scanAll(e.ctx, e.store)
		for k, v := range values {
			if err == nil {
				_, err = checkPieces("Scan during appends, key "+k, v)
			}
		}
		return err
	}
}

// appendToNewKeys appends to each new key in several goroutines at once.
func appendToNewKeys(e *env) {
	keys := numberedKeys(300)
	e.concurrently(writerCalls(func(w int) error {
		for _, k := range keys {
			if err := e.store.Append(e.ctx, piece{w, 0}.entry(k)); err != nil {
				return fmt.Errorf("append: %w", err)
			}
		}
		return nil
	})...)
	for i, v := range e.get(keys...) {
		k := keys[i]
		nextNumbers, err := checkPieces("Get of "+k, v)
		e.must("after all writers have finished", err)
		if len(nextNumbers) != writers {
			e.Fatalf("key %s has appends of %d writers, want %d", k, len(nextNumbers), writers)
		}
		e.model[k] = string(v)
	}
	e.check("after all writers have finished")
}
