package objstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestSweep checks that Sweep deletes the objects that dead writers and drops left behind once they
// are old enough, and no other objects.
func TestSweep(t *testing.T) {
	b := new(Memory)
	countObjects := func() (n int) {
		for o, err := range b.List(t.Context(), "", "") {
			if err == nil && (strings.HasPrefix(o.Name, "seg/") || strings.HasPrefix(o.Name, "sweep/")) {
				n++
			}
		}
		return n
	}
	noInline := hooks{maxInline: -1}
	s := open(t, b, Options{hooks: noInline})
	fill(t, s, 10)
	dead := open(t, b, Options{SegmentSize: 144 << 10, hooks: noInline})
	for range 4 { // segments that are never committed
		must.Do(t, dead.Append(t.Context(), partd.Entry{Key: "dead", Value: make([]byte, 100<<10)}))
	}
	must.Do(t, dead.buffer.mu.lock(t.Context()))
	err := dead.buffer.uploads.wait(t.Context(), 0)
	dead.buffer.mu.unlock()
	if n := countObjects(); err != nil || n != 4 {
		t.Fatalf("the bucket has %d segments (error %v), want 4", n, err)
	}
	sweep := func(age time.Duration, want int64, remaining int) {
		t.Helper()
		s.opts.hooks.segmentAge = age
		swept, err := s.Sweep(t.Context())
		s.opts.hooks.segmentAge = 0
		if err != nil || swept.Objects != want || countObjects() != remaining {
			t.Errorf("Sweep() = %+v, %v, and %d objects remain; want %d deleted and %d remaining", swept, err, countObjects(), want, remaining)
		}
	}
	sweep(sweepAge-time.Minute, 0, 4)
	sweep(sweepAge+time.Minute, 3, 1)
	// If the writer comes back, it must not commit deleted segments.
	dead.opts.hooks.segmentAge = sweepAge/2 + time.Minute
	must.Fail(t, dead.Flush(t.Context()), ErrRefused, "Flush() of old segments")
	wantKeys(t, s, 10)
	must.Do(t, s.Drop(t.Context()))
	sweep(0, 0, 2)
	sweep(sweepAge+time.Minute, 2, 0)
}

// TestSweepReadsLogLast checks that Sweep keeps an old segment that is committed just before Sweep lists it. Sweep must
// therefore list the segments before it reads the log.
func TestSweepReadsLogLast(t *testing.T) {
	mem := new(Memory)
	writer := open(t, mem, Options{hooks: hooks{maxInline: -1}})
	appendAndFlush(t, writer, "k", "1;")
	b := &faultyBucket{Bucket: mem}
	b.list = func(all []Object) []Object {
		if len(all) == 0 || !strings.HasPrefix(all[0].Name, "seg/") {
			return all
		}
		appendAndFlush(t, writer, "k", "2;")
		all = nil
		for o := range mem.List(t.Context(), "seg/", "") {
			o.Modified = o.Modified.Add(-2 * sweepAge)
			all = append(all, o)
		}
		return all
	}
	if swept, err := open(t, b, Options{}).Sweep(t.Context()); err != nil || swept.Objects != 0 {
		t.Errorf("Sweep() = %+v, %v; want no deleted objects", swept, err)
	}
	if v, err := readValue(t, mem, "k"); err != nil || !strings.HasPrefix(v, "1;2;") {
		t.Errorf("the value is %q (error %v), want %q at its beginning", v, err, "1;2;")
	}
}

// agedBucket returns a bucket that reports objects as older by age, if isAged returns true for their names.
func agedBucket(b Bucket, age time.Duration, isAged func(name string) bool) *faultyBucket {
	return &faultyBucket{Bucket: b, list: func(all []Object) []Object {
		for i := range all {
			if isAged(all[i].Name) {
				all[i].Modified = all[i].Modified.Add(-age)
			}
		}
		return all
	}}
}

// TestOldWaitingRecords checks that writers do not commit a waiting record whose segments Sweep may delete.
func TestOldWaitingRecords(t *testing.T) {
	mem := new(Memory)
	var dead *Store
	b := agedBucket(mem, 25*time.Hour, func(name string) bool { return dead != nil && strings.Contains(name, fmt.Sprintf("%x", dead.writer)) })
	sweeper := open(t, b, Options{})
	attempts := 0
	appendAndFlush(t, contendedStore(t, b, Options{}, func() {
		switch attempts++; attempts {
		case 1: // another writer wins this log number, so the next group could contain its record
			dead = abandonedStore(t, mem, Options{hooks: hooks{maxInline: -1}}, "k", "1;")
		case 2:
			if swept, err := sweeper.Sweep(t.Context()); err != nil || swept.Objects != 2 {
				t.Errorf("Sweep() = %+v, %v; want 2 objects", swept, err)
			}
		}
	}), "k", "2;")
	wantValue(t, b, "k", "2;")
}

// TestSweepOfWaitingRecords checks that Sweep deletes old waiting records that are not in the log, and no other
// records.
func TestSweepOfWaitingRecords(t *testing.T) {
	b := new(Memory)
	appendAndFlush(t, contendedStore(t, b, Options{}, nil), "k", "1;")
	appendAndFlush(t, contendedStore(t, b, Options{hooks: hooks{maxInline: -1}}, nil), "k", "2;")
	abandonedStore(t, b, Options{}, "k", "3;")
	slow := agedBucket(b, 2*sweepAge, func(string) bool { return true }) // its clock is two days behind this machine's
	if swept, err := open(t, slow, Options{}).Sweep(t.Context()); err != nil || swept.Objects != 0 {
		t.Errorf("with a slow clock: Sweep() = %+v, %v; want no deleted objects", swept, err)
	}
	s := open(t, b, Options{})
	for _, want := range []int64{0, 1, 0} {
		if swept, err := s.Sweep(t.Context()); err != nil || swept.Objects != want {
			t.Errorf("Sweep() = %+v, %v; want %d objects", swept, err, want)
		}
		s.opts.hooks.segmentAge = sweepAge + time.Minute
	}
	wantValue(t, b, "k", "1;2;")
}

// TestSleepWhileWaiting checks that a writer that sleeps for more than a day does not commit its waiting record, even
// if all data is inline.
func TestSleepWhileWaiting(t *testing.T) {
	b := new(Memory)
	s := abandonedStore(t, b, Options{}, "k", "1;")
	sweeper := open(t, b, Options{})
	sweeper.opts.hooks.segmentAge = sweepAge + time.Minute
	if swept, err := sweeper.Sweep(t.Context()); err != nil || swept.Objects != 1 {
		t.Errorf("Sweep() = %+v, %v; want 1 object", swept, err)
	}
	s.opts.hooks.segmentAge = sweepAge + time.Minute
	if err := s.Flush(t.Context()); !errors.Is(err, errTooOld) || !errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("Flush() error = %v, want both %v and %v", err, errTooOld, partd.ErrUnknownOutcome)
	}
	wantValue(t, b, "k", "")
	must.Fail(t, s.Close(), errTooOld, "Close()")
	must.Fail(t, s.Append(t.Context()), partd.ErrClosed, "Append() after Close")
}
