package objstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// racingBucket returns a bucket that first checks whether an object exists and then creates it. So several
// concurrent creators may succeed, and the last one overwrites the other objects. All creators get their
// answers after the last one is done. For names without the prefix, the bucket works correctly.
func racingBucket(b Bucket, prefix string, chance float64) *faultyBucket {
	type group struct {
		running int
		done    chan struct{}
	}
	faulty := &faultyBucket{Bucket: b}
	var mu sync.Mutex
	groups := map[string]*group{}
	faulty.create = func(ctx context.Context, name string, data []byte) error {
		if !strings.HasPrefix(name, prefix) {
			return b.Create(ctx, name, data)
		}
		r, err := b.ReadRange(ctx, name, 0, 0)
		exists := err == nil
		if exists {
			_ = r.Close()
		}
		mu.Lock()
		g := groups[name]
		if g == nil {
			g = &group{done: make(chan struct{})}
			groups[name] = g
		}
		g.running++
		mu.Unlock()
		time.Sleep(2*time.Millisecond + rand.N(2*time.Millisecond)) // so that other creators arrive
		mu.Lock()
		if !exists && rand.Float64() < chance {
			_ = b.Delete(ctx, name)
		}
		err = b.Create(ctx, name, data)
		if g.running--; g.running == 0 {
			close(g.done)
			delete(groups, name)
		}
		mu.Unlock()
		<-g.done
		return err
	}
	return faulty
}

// TestTwoCreatorsWin checks that Open for writing rejects a bucket in which two creators of an object can succeed.
func TestTwoCreatorsWin(t *testing.T) {
	b := racingBucket(new(Memory), "", 0.9)
	for range 3 {
		_, err := Open(t.Context(), b, nil)
		if !errors.Is(err, ErrRefused) || !errors.Is(err, errTwoWinners) || !strings.Contains(err.Error(), scratchPrefix) {
			t.Errorf("Open() error = %v, want %v and %v, with the object's name", err, ErrRefused, errTwoWinners)
		}
	}
	if _, err := Open(t.Context(), b, &Options{ReadOnly: true}); err != nil {
		t.Error(err)
	}
	for o, err := range b.List(t.Context(), scratchPrefix, "") {
		t.Error("leftover object:", o.Name, err)
	}
	var mu sync.Mutex
	creations := map[string]int{}
	two := &faultyBucket{Bucket: new(Memory)} // exactly two creators of an object win
	two.create = func(ctx context.Context, name string, data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if creations[name]++; strings.HasPrefix(name, scratchPrefix) && creations[name] == 2 {
			return nil
		}
		return two.Bucket.Create(ctx, name, data)
	}
	must.Fail(t, must.Err(Open(t.Context(), two, nil)), errTwoWinners, "with two winners: Open()")
}

// runRace makes many writers append to a bucket in a synctest bubble. The bucket lets two creators of a log
// object win, but passes the test in Open. runRace returns the number of acknowledged appends that are lost,
// the number of appends that failed, and the number of waiting records that writers created.
func runRace(t *testing.T, writers int) (lost, refusedCount, waited int) {
	synctest.Test(t, func(t *testing.T) {
		b := racingBucket(new(Memory), "log/", 0.5)
		const rounds = 10
		acknowledged := make([]bool, rounds*writers)
		for round := range rounds {
			var wg sync.WaitGroup
			for w := range writers {
				i := round*writers + w
				s := open(t, b, Options{RetryFor: 5 * time.Second})
				wg.Go(func() {
					err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i), Value: []byte("x")})
					if err == nil {
						err = s.Flush(t.Context())
					}
					acknowledged[i] = err == nil
					if second := s.Flush(t.Context()); err != nil && second == nil {
						t.Error("a second Flush() succeeded after a failed one")
					}
					if err != nil && !(errors.Is(err, errTwoWinners) && errors.Is(err, partd.ErrUnknownOutcome)) {
						t.Errorf("Flush() error = %v, want both %v and %v", err, errTwoWinners, partd.ErrUnknownOutcome)
					}
					if closing := s.Close(); (closing == nil) != (err == nil) {
						t.Errorf("Close() error = %v after Flush() error = %v; want both to fail or neither", closing, err)
					}
					must.Fail(t, s.Append(t.Context(), partd.Entry{Key: "after"}), partd.ErrClosed, "Append() after Close")
				})
			}
			wg.Wait()
		}
		s := open(t, b.Bucket, Options{})
		for i, ok := range acknowledged {
			v, err := s.Get(t.Context(), fmt.Sprint(i))
			if err != nil || len(v[0]) > 1 {
				t.Errorf("key %d has the value %q (error %v), want at most one piece", i, v, err)
			}
			if !ok {
				refusedCount++
			} else if len(v[0]) == 0 {
				lost++
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for range b.List(t.Context(), waitPrefix, "") {
			waited++
		}
	})
	return lost, refusedCount, waited
}

// TestRecordsAreReadBack checks that a writer does not acknowledge its record if another creator
// overwrote the log object that commits the record. The log object can be the record itself, or a
// group that names the writer's waiting record.
func TestRecordsAreReadBack(t *testing.T) {
	if lost, refusedCount, _ := runRace(t, 4); lost > 0 || refusedCount == 0 {
		t.Errorf("%d acknowledged appends are lost, want 0; %d stores were refused, want at least 1", lost, refusedCount)
	}
	if lost, refusedCount, waited := runRace(t, 30); lost > 0 || refusedCount == 0 || waited < 100 {
		t.Errorf("%d acknowledged appends are lost, want 0; %d stores were refused, want at least 1; %d records waited, want at least 100", lost, refusedCount, waited)
	}
}
