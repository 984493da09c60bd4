package objstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestSetOnceIsBounded(t *testing.T) {
	s := open(t, new(Memory), Options{})
	must.Fail(t, s.SetOnce(t.Context(), "k", make([]byte, MinMemory/16)), partd.ErrTooLarge, "SetOnce() of a large value")
	value := make([]byte, MinMemory/20)
	must.Check(t, s.SetOnce(t.Context(), "k", value))
	if v, err := s.Get(t.Context(), "k"); err != nil || len(v[0]) != len(value) {
		t.Errorf("the length of the value that Get() returned differs from the length that was set (error %v)", err)
	}
}

// TestClosingWithOldSegments checks that Close returns an error if segments are so old that Sweep may delete them. Data
// inside a log record is never too old.
func TestClosingWithOldSegments(t *testing.T) {
	for _, inline := range []int64{-1, 1 << 20} {
		s := open(t, new(Memory), Options{hooks: hooks{maxInline: inline, segmentAge: sweepAge}})
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}))
		err := s.Close()
		if old := errors.Is(err, errTooOld); old != (inline < 0) || !old && err != nil {
			t.Errorf("maxInline %d: Close() error = %v; want %v only without inline data", inline, err, errTooOld)
		}
		if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}); !errors.Is(err, partd.ErrClosed) {
			t.Errorf("Append() after Close: error = %v, want %v", err, partd.ErrClosed)
		}
		must.Check(t, s.Close())
	}
}

// TestOneOldSegment checks that a flush fails if only the oldest of its segments is too old to be committed.
func TestOneOldSegment(t *testing.T) {
	s := open(t, new(Memory), Options{SegmentSize: 1, hooks: hooks{maxInline: -1}})
	for len(s.buffer.pending) == 0 {
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: make([]byte, 50<<10)}))
	}
	s.buffer.pending[0].createdAt = time.Now().Add(-sweepAge/2 - time.Minute)
	must.Fail(t, s.Flush(t.Context()), errTooOld, "Flush()")
}

// TestLongSetOnce checks that a Set or SetOnce applies to all pieces of a long value or to none.
func TestLongSetOnce(t *testing.T) {
	s := open(t, new(Memory), Options{})
	long := bytes.Repeat([]byte("v"), 3*segment.MaxInline)
	must.Do(t, errors.Join(s.Set(t.Context(), "set", long), s.SetOnce(t.Context(), "new", long),
		s.Set(t.Context(), "kept", []byte("short")), s.SetOnce(t.Context(), "kept", long)))
	for key, want := range map[string][]byte{"set": long, "new": long, "kept": []byte("short")} {
		v, err := s.Get(t.Context(), key)
		if err != nil || !bytes.Equal(v[0], want) {
			t.Errorf("Get(%s) returned %d bytes (error %v), want %d", key, len(v[0]), err, len(want))
		}
		r := must.Get(s.Open(t.Context(), key))(t)
		b, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(b, want) {
			t.Errorf("Open(%s) returned %d bytes (error %v), want %d", key, len(b), err, len(want))
		}
	}
}

// TestPartsAreDisjoint checks that each hash belongs to one part.
func TestPartsAreDisjoint(t *testing.T) {
	for _, parts := range []int{1, 2, 3, 7, 1000} {
		var next uint64
		for part := range parts {
			iv := partOf(part, parts)
			if iv.lo != next || iv.hi < iv.lo {
				t.Fatalf("part %d of %d has the hashes %x to %x, want them to begin at %x", part, parts, iv.lo, iv.hi, next)
			}
			next = iv.hi + 1
		}
		if next != 0 {
			t.Errorf("the last of %d parts ends before %x, want it to include the highest hash", parts, next)
		}
	}
}

// TestCloseDuringAppends checks that Close returns although another goroutine appends continuously, and that all
// acknowledged data exists.
func TestCloseDuringAppends(t *testing.T) {
	mem := new(Memory)
	s := open(t, &faultyBucket{Bucket: mem, create: func(ctx context.Context, name string, data []byte) error {
		time.Sleep(time.Millisecond)
		return mem.Create(ctx, name, data)
	}}, Options{SegmentSize: 1, RetryFor: time.Second, hooks: hooks{maxInline: -1}})
	piece := make([]byte, 30_000)
	started, appendCount := make(chan bool), make(chan int)
	go func() {
		for n := 0; ; n++ {
			if err := s.Append(context.Background(), partd.Entry{Key: "k", Value: piece}); err != nil {
				must.Fail(t, err, partd.ErrClosed, "Append()")
				appendCount <- n
				return
			}
			if n == 10 {
				close(started)
			}
		}
	}()
	<-started
	must.Do(t, s.Close())
	n := <-appendCount
	if v, err := readValue(t, mem, "k"); err != nil || len(v) != n*len(piece) {
		t.Errorf("the value has %d bytes (error %v) after %d appends, want %d", len(v), err, n, n*len(piece))
	}
}

// TestCanceledContexts checks that if a context is canceled during any of the first requests, all acknowledged data
// exists once.
func TestCanceledContexts(t *testing.T) {
	for request := range 12 {
		b := &faultyBucket{Bucket: new(Memory)}
		s := open(t, b, Options{SegmentSize: 1, hooks: hooks{maxInline: 100}})
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64 // two segments are uploaded concurrently
		cancelAtRequest := func() {
			if n.Add(1) == int64(request) {
				cancel()
			}
		}
		b.create = func(c context.Context, name string, data []byte) error {
			cancelAtRequest()
			err := b.Bucket.Create(context.WithoutCancel(c), name, data)
			if c.Err() != nil {
				err = c.Err() // the response is lost
			}
			return err
		}
		want := 0
		for i := range 10 {
			length := 1 + i%3*100_000
			if err := s.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, length)}); err == nil {
				want += length
			}
			_ = s.Flush(ctx)
			err := s.SetOnce(ctx, "once", []byte{byte(i)})
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
		cancel()
		v, err := s.Get(t.Context(), "k", "once")
		if err != nil || len(v[0]) != want || len(v[1]) > 1 || len(v[1]) == 1 && v[1][0] != 0 {
			t.Errorf("canceled at request %d: the values are %d bytes, want %d, and %q, want at most one byte (error %v)", request, len(v[0]), want, v[1], err)
		}
		must.Check(t, s.Close())
	}
}
