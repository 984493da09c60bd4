package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
)

// However small SegmentSize is, the largest entry must fit. However large it is, offsets
// must fit into 32 bits.
func TestSizesOfSegments(t *testing.T) {
	s := open(t, new(Memory), Options{SegmentSize: 1})
	large := partd.Entry{Key: strings.Repeat("k", partd.MaxKeyLen), Value: bytes.Repeat([]byte("v"), 3*segment.MaxInline+1)}
	if err := s.Append(t.Context(), large, partd.Entry{Key: "b", Value: []byte("b")}); err != nil {
		t.Fatal(err)
	}
	values, err := s.Get(t.Context(), large.Key, "b")
	if err != nil || !bytes.Equal(values[0], large.Value) || string(values[1]) != "b" {
		t.Error(len(values), err)
	}
	huge := &Store{opts: Options{Memory: 1 << 40, SegmentSize: 1 << 40}}
	if n := huge.tableSize(); encodedBound(n) > 1<<32-1 {
		t.Error(n)
	}
}

// Appends without a flush must commit now and then, to bound the memory for pending
// pieces and the size of records.
func TestManySegmentsOfOneFlush(t *testing.T) {
	b := new(Memory)
	s := open(t, b, Options{SegmentSize: minTable, hooks: hooks{maxInline: -1, rangeBytes: 16}})
	value := make([]byte, 1000)
	const n = 40_000
	for i := range n {
		if err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i), Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for o := range b.List(t.Context(), "log/", "") {
		if o.Size > 2*maxFooters {
			t.Errorf("%s has %d bytes", o.Name, o.Size)
		}
	}
	if s.number < 2 {
		t.Errorf("one record has all %d segments", s.pieces)
	}
	if result := count(t, open(t, b, Options{})); result != n {
		t.Error(result)
	}
}

func TestSetOnceIsBounded(t *testing.T) {
	s := open(t, new(Memory), Options{})
	if err := s.SetOnce(t.Context(), "k", make([]byte, MinMemory/16)); !errors.Is(err, partd.ErrTooLarge) {
		t.Error(err)
	}
	value := make([]byte, MinMemory/20)
	if err := s.SetOnce(t.Context(), "k", value); err != nil {
		t.Error(err)
	}
	if v, err := s.Get(t.Context(), "k"); err != nil || len(v[0]) != len(value) {
		t.Error(len(v), err)
	}
}

// Appends and flushes run concurrently while uploads fail, under the race detector.
// Everything acknowledged must exist once.
func TestFailingUploadsUnderLoad(t *testing.T) {
	b := &lying{Bucket: new(Memory)}
	var n atomic.Int64
	var works atomic.Bool
	b.create = func(ctx context.Context, name string, data []byte) error {
		if n.Add(1)%3 == 0 && strings.HasPrefix(name, "seg/") && !works.Load() {
			return errServer
		}
		return b.Bucket.Create(ctx, name, data)
	}
	s := open(t, b, Options{SegmentSize: 1, RetryFor: time.Nanosecond, hooks: hooks{maxInline: -1}})
	var wg sync.WaitGroup
	var acked [3]int
	value := make([]byte, 50<<10)
	for w := range acked {
		wg.Go(func() {
			for range 60 {
				if err := s.Append(context.Background(), partd.Entry{Key: fmt.Sprint(w), Value: value}); err == nil {
					acked[w]++
				}
				_ = s.Flush(context.Background()) // it may fail, but the last one must not
			}
		})
	}
	wg.Wait()
	works.Store(true)
	for w, n := range acked {
		v, err := s.Get(t.Context(), fmt.Sprint(w))
		if err != nil || len(v[0]) != n*len(value) || n == 0 {
			t.Errorf("writer %d: %d bytes after %d appends, %v", w, len(v), n, err)
		}
	}
}

// A store with segments too old for a commit must close with an error. A store with only
// inline data is never too old.
func TestClosingWithOldSegments(t *testing.T) {
	for _, inline := range []int64{-1, 1 << 20} {
		s := open(t, new(Memory), Options{hooks: hooks{maxInline: inline, segmentAge: sweepAge}})
		if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		err := s.Close()
		if old := errors.Is(err, errTooOld); old != (inline < 0) || !old && err != nil {
			t.Errorf("inline %d: %v", inline, err)
		}
		if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}); !errors.Is(err, partd.ErrClosed) {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Close must return while others append without end, and everything acknowledged must exist.
func TestCloseDuringAppends(t *testing.T) {
	mem := new(Memory)
	s := open(t, &lying{Bucket: mem, create: func(ctx context.Context, name string, data []byte) error {
		time.Sleep(time.Millisecond)
		return mem.Create(ctx, name, data)
	}}, Options{SegmentSize: 1, RetryFor: time.Second, hooks: hooks{maxInline: -1}})
	piece := make([]byte, 30_000)
	begun, ended := make(chan bool), make(chan int)
	go func() {
		for n := 0; ; n++ {
			if err := s.Append(context.Background(), partd.Entry{Key: "k", Value: piece}); err != nil {
				if !errors.Is(err, partd.ErrClosed) {
					t.Error(err)
				}
				ended <- n
				return
			}
			if n == 10 {
				close(begun)
			}
		}
	}()
	<-begun
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n := <-ended
	if v, err := value(t, mem, "k", hooks{}); err != nil || len(v) != n*len(piece) {
		t.Errorf("%d bytes after %d appends, %v", len(v), n, err)
	}
}

// Wherever a context ends, everything acknowledged must exist once.
func TestEndingContexts(t *testing.T) {
	for request := range 12 {
		b := &lying{Bucket: new(Memory)}
		s := open(t, b, Options{SegmentSize: 1, hooks: hooks{maxInline: 100}})
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64 // two segments are uploaded concurrently
		end := func() {
			if n.Add(1) == int64(request) {
				cancel()
			}
		}
		b.create = func(c context.Context, name string, data []byte) error {
			end()
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
			t.Errorf("context ended at %d: %d bytes, want %d, %q, %v", request, len(v[0]), want, v[1], err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Compressed blocks, which no store in a bucket writes, must not overwrite the entries of
// the next segment.
func TestCompressedBlocks(t *testing.T) {
	s := open(t, new(Memory), Options{hooks: hooks{maxInline: -1}})
	for _, e := range s.encoders {
		var err error
		if e.compressor, err = segment.NewCompressor(1); err != nil {
			t.Fatal(err)
		}
	}
	value := bytes.Repeat([]byte("value "), 100)
	for range 3 {
		for i := range 1000 {
			if err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i), Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := countKeys(t.Context(), s); !errors.As(err, new(*partd.CorruptError)) {
		t.Error(n, err)
	}
}
