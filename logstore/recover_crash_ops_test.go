package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"strconv"
	"testing"
	"testing/cryptotest"

	"github.com/go-partd/partd"
)

type crashStep func(ctx context.Context, s **Store) (synced bool, err error)

// nextOperation returns a random operation, and applies it to the model m. n makes values differ.
func (r *crashRun) nextOperation(m map[string][]byte, n *int) crashStep {
	key := func() string { return fmt.Sprintf("k%d", r.rnd.IntN(6)) }
	value := func() []byte {
		*n++
		size := []int{1, 5, 40, 40, 200, 700, 1500}[r.rnd.IntN(7)]
		return bytes.Repeat(fmt.Appendf(nil, "%d,", *n), size/4+1)
	}
	step := func(f func(ctx context.Context, s *Store) error) crashStep {
		return func(ctx context.Context, s **Store) (bool, error) { return false, f(ctx, *s) }
	}
	switch x := r.rnd.IntN(100); {
	case x < 60:
		var entries []partd.Entry
		for range 1 + r.rnd.IntN(4) {
			e := partd.Entry{Key: key(), Value: value()}
			entries = append(entries, e)
			m[e.Key] = append(m[e.Key][:len(m[e.Key]):len(m[e.Key])], e.Value...)
		}
		return step(func(ctx context.Context, s *Store) error { return s.Append(ctx, entries...) })
	case x < 65:
		k, v := key(), value()
		if _, exists := m[k]; exists && *n%3 == 0 {
			return step(func(ctx context.Context, s *Store) error { return s.SetOnce(ctx, k, v) })
		}
		m[k] = v
		return step(func(ctx context.Context, s *Store) error { return s.Set(ctx, k, v) })
	case x < 70:
		k := key()
		delete(m, k)
		return step(func(ctx context.Context, s *Store) error { return s.Delete(ctx, k) })
	case x < 73:
		k := key()
		delete(m, k)
		return step(func(ctx context.Context, s *Store) error { _, err := s.Pop(ctx, k, "none"); return err })
	case x < 76:
		clear(m)
		return step(func(ctx context.Context, s *Store) error { return s.Drop(ctx) })
	case x < 79:
		return step(func(ctx context.Context, s *Store) error { return s.Flush(ctx) })
	case x < 80:
		want := maps.Clone(m)
		return step(func(ctx context.Context, s *Store) error { return r.scanSlowly(ctx, s, want) })
	case x < 90:
		return func(ctx context.Context, s **Store) (bool, error) { return true, (*s).Sync(ctx) }
	case x < 94:
		return func(ctx context.Context, s **Store) (bool, error) {
			if r.inOrder { // otherwise Close could cancel a merge that its flush causes
				if err := (*s).Flush(ctx); err != nil {
					return false, err
				}
				settleStore(*s)
			}
			err := (*s).Close()
			if err == nil {
				*s, err = openHooked(crashDir, r.options(), r.hooks)
			}
			return false, err
		}
	}
	if r.rnd.IntN(3) == 0 { // a change that does nothing if the key exists, and must then free its space
		k, v := key(), value()
		if _, exists := m[k]; !exists {
			m[k] = v
		}
		return step(func(ctx context.Context, s *Store) error { return s.SetOnce(ctx, k, v) })
	}
	k, v := key(), value()
	m[k] = append(m[k][:len(m[k]):len(m[k])], v...)
	return step(func(ctx context.Context, s *Store) error { // an append that is retried
		session, err := s.NewSession(ctx)
		if err != nil {
			return err
		}
		for i, want := range []bool{true, false} {
			applied, err := s.Apply(ctx, partd.Tag{Session: session, Number: 1, CRC: 7}, partd.Operation{Change: partd.ChangeAppend, Entries: []partd.Entry{{Key: k, Value: v}}})
			if err != nil || applied != want {
				return fmt.Errorf("attempt %d: Apply returned applied=%v, error %w", i+1, applied, err)
			}
		}
		return nil
	})
}

// scanSlowly finishes the previous Scan and starts another. The new Scan must yield the
// current content, regardless of changes before it is finished.
func (r *crashRun) scanSlowly(ctx context.Context, s *Store, want map[string][]byte) error {
	err := r.endScan()
	next, stop := iter.Pull2(s.Scan(ctx))
	got := map[string][]byte{}
	c, e, more := next()
	r.finishScan = func() error {
		defer stop()
		for ; more; c, e, more = next() {
			if e != nil {
				return e
			}
			got[c.Key] = append(got[c.Key], c.Data...)
		}
		if !maps.EqualFunc(got, want, bytes.Equal) {
			return fmt.Errorf("a slow Scan yielded wrong contents: %d keys, want %d", len(got), len(want))
		}
		return nil
	}
	return errors.Join(err, e)
}

func (r *crashRun) endScan() error {
	if r.finishScan == nil {
		return nil
	}
	end := r.finishScan
	r.finishScan = nil
	return end()
}

// flushAndSettle flushes the active table if the next operation could fill it, and waits for background work.
func flushAndSettle(ctx context.Context, s *Store) error {
	settleStore(s)
	if t := s.tables.active; t.size < int64(len(t.arena)/2) && t.wal.end < 3*int64(len(t.arena)) {
		return nil
	}
	err := s.Flush(ctx)
	settleStore(s)
	return err
}

// settleStore waits until the other goroutines of s have ended.
func settleStore(s *Store) {
	s.mu.Lock()
	s.journal.waitSealed()
	done, isMerging := s.background.done, s.background.running
	s.mu.Unlock()
	if isMerging {
		<-done
	}
	s.segments.discards.Wait()
}

// crashCount returns the number of crashes to simulate: PARTD_CRASHES or, if it is unset, defaultCount.
func crashCount(t *testing.T, defaultCount int) int {
	n, err := strconv.Atoi(os.Getenv("PARTD_CRASHES"))
	if err != nil {
		return defaultCount
	}
	return n
}

// firstSeed returns the first seed of a crash test: the value of PARTD_CRASH_SEED, or 1. Each
// seed simulates about 150 crashes, so a run of a million crashes can be divided.
func firstSeed() uint64 {
	n, err := strconv.ParseUint(os.Getenv("PARTD_CRASH_SEED"), 10, 64)
	if err != nil {
		return 1
	}
	return n
}

// runLives runs operations on a new store, and then others on what the last crash left.
func runLives(t *testing.T, kind crashKind, seed uint64) (*crashRun, error) {
	cryptotest.SetGlobalRandom(t, seed) // chooses the store's ID, and so the order of keys
	h := crashHooks
	if seed%3 > 0 {
		h.minMerge, h.smallLen, h.mergeBytes = 3, 1<<20, 3<<10
	}
	if seed%4 > 0 {
		h.reclaimSlack = 1 << 10
	}
	if seed%4 == 3 { // include hot keys
		h.tableBytes, h.blobBytes, h.readBytes, h.mergeBytes = 16<<10, 2000, 16<<10, 12<<10
	}
	if seed%5 == 0 { // scans borrow memory of a table
		h.maxBatch = h.tableBytes / 6
	}
	r := newCrashRun(kind, seed, h)
	err := r.run(40)
	if err == nil && r.left != nil {
		r.continueAfterCrash()
		err = r.run(15)
	}
	return r, err
}
