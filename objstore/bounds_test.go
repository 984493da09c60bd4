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

// However small segments are to be, the largest entry fits in; however large, offsets
// have 32 bits.
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

// Appends without a flush commit now and then, so that neither the places of what is
// pending nor a record of the log grow without a bound.
func TestManySegmentsOfOneFlush(t *testing.T) {
	b := new(Memory)
	s := open(t, b, Options{SegmentSize: minTable, hooks: hooks{inline: -1, rangeBytes: 16}})
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
		t.Errorf("all %d segments are in one record", s.pieces)
	}
	if found := count(t, open(t, b, Options{})); found != n {
		t.Error(found)
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

// Appends and flushes go on at the same time while uploads fail: the race detector
// looks on, and what was acknowledged is there once.
func TestUploadsThatFailUnderLoad(t *testing.T) {
	b := &lying{Bucket: new(Memory)}
	var n atomic.Int64
	var works atomic.Bool
	b.create = func(ctx context.Context, name string, data []byte) error {
		if n.Add(1)%3 == 0 && strings.HasPrefix(name, "seg/") && !works.Load() {
			return errServer
		}
		return b.Bucket.Create(ctx, name, data)
	}
	s := open(t, b, Options{SegmentSize: 1, RetryFor: time.Nanosecond, hooks: hooks{inline: -1}})
	var wg sync.WaitGroup
	var kept [3]int
	value := make([]byte, 50<<10)
	for w := range kept {
		wg.Go(func() {
			for range 60 {
				if err := s.Append(context.Background(), partd.Entry{Key: fmt.Sprint(w), Value: value}); err == nil {
					kept[w]++
				}
				_ = s.Flush(context.Background()) // it may fail; the last one may not
			}
		})
	}
	wg.Wait()
	works.Store(true)
	for w, n := range kept {
		v, err := s.Get(t.Context(), fmt.Sprint(w))
		if err != nil || len(v[0]) != n*len(value) || n == 0 {
			t.Errorf("writer %d: %d bytes of %d appends, %v", w, len(v), n, err)
		}
	}
}

// A store whose segments are too old to count closes, and says so; one of which all is
// in the log itself is never too old.
func TestClosingWhatIsTooOld(t *testing.T) {
	for _, inline := range []int64{-1, 1 << 20} {
		s := open(t, new(Memory), Options{hooks: hooks{inline: inline, segmentAge: sweepAge}})
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

// Close ends while others append without end, and all that was acknowledged is there.
func TestClosingWhileOthersAppend(t *testing.T) {
	mem := new(Memory)
	s := open(t, &lying{Bucket: mem, create: func(ctx context.Context, name string, data []byte) error {
		time.Sleep(time.Millisecond)
		return mem.Create(ctx, name, data)
	}}, Options{SegmentSize: 1, RetryFor: time.Second, hooks: hooks{inline: -1}})
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
		t.Errorf("%d bytes of %d appends, %v", len(v), n, err)
	}
}

// Wherever a context ends, what was acknowledged is there once.
func TestContextsThatEnd(t *testing.T) {
	for at := range 12 {
		b := &lying{Bucket: new(Memory)}
		s := open(t, b, Options{SegmentSize: 1, hooks: hooks{inline: 100}})
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64 // two segments are uploaded at the same time
		end := func() {
			if n.Add(1) == int64(at) {
				cancel()
			}
		}
		b.create = func(c context.Context, name string, data []byte) error {
			end()
			err := b.Bucket.Create(context.WithoutCancel(c), name, data)
			if c.Err() != nil {
				err = c.Err() // the answer is lost
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
			t.Errorf("ended at %d: %d bytes, want %d, %q, %v", at, len(v[0]), want, v[1], err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Blocks that hold more than they take, as no store in a bucket writes them, are not
// mixed up with those of the next segment.
func TestBlocksThatAreCompressed(t *testing.T) {
	s := open(t, new(Memory), Options{hooks: hooks{inline: -1}})
	for _, e := range s.encoders {
		var err error
		if e.comp, err = segment.NewCompressor(1); err != nil {
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
