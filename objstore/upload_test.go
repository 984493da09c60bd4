package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestSegmentSizeLimits checks that the largest entry fits into the smallest segment, and that offsets in the largest
// segment fit into 32 bits.
func TestSegmentSizeLimits(t *testing.T) {
	s := open(t, new(Memory), Options{SegmentSize: 1})
	large := partd.Entry{Key: strings.Repeat("k", partd.MaxKeyLen), Value: bytes.Repeat([]byte("v"), 3*segment.MaxInline+1)}
	must.Do(t, s.Append(t.Context(), large, partd.Entry{Key: "b", Value: []byte("b")}))
	values, err := s.Get(t.Context(), large.Key, "b")
	if err != nil || !bytes.Equal(values[0], large.Value) || string(values[1]) != "b" {
		t.Errorf("Get() returned values that differ from the appended ones (error %v)", err)
	}
	huge := &Options{Memory: 1 << 40, SegmentSize: 1 << 40}
	if n := huge.tableSize(); maxEncodedSize(n) > 1<<32-1 {
		t.Errorf("tableSize() = %d, whose encoding may exceed 32-bit offsets", n)
	}
}

// TestManySegmentsOfOneFlush checks that appends without a Flush commit several records. With a single
// record, the pending pieces would need too much memory, and the record would become too large.
func TestManySegmentsOfOneFlush(t *testing.T) {
	b := new(Memory)
	s := open(t, b, Options{SegmentSize: minTableSize, hooks: hooks{maxInline: -1, rangeBytes: 16}})
	value := make([]byte, 1000)
	const n = 40_000
	for i := range n {
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i), Value: value}))
	}
	must.Do(t, s.Flush(t.Context()))
	for o := range b.List(t.Context(), "log/", "") {
		if o.Size > 2*maxFooterBytes {
			t.Errorf("%s has %d bytes, want at most %d", o.Name, o.Size, 2*maxFooterBytes)
		}
	}
	if s.committer.nextNumber < 2 {
		t.Errorf("one record commits all %d segments, want several records", s.buffer.uploads.pieceCount)
	}
	wantKeys(t, open(t, b, Options{}), n)
}

// TestFailingUploadsUnderLoad checks that if uploads fail during concurrent appends and flushes, all acknowledged data
// exists once.
func TestFailingUploadsUnderLoad(t *testing.T) {
	b := &faultyBucket{Bucket: new(Memory)}
	var n atomic.Int64
	var healthy atomic.Bool
	b.create = func(ctx context.Context, name string, data []byte) error {
		if n.Add(1)%3 == 0 && strings.HasPrefix(name, "seg/") && !healthy.Load() {
			return errServer
		}
		return b.Bucket.Create(ctx, name, data)
	}
	s := open(t, b, Options{SegmentSize: 1, RetryFor: time.Nanosecond, hooks: hooks{maxInline: -1}})
	var acked [3]int
	value := make([]byte, 50<<10)
	must.Concurrently(len(acked), func(w int) {
		for range 60 {
			if err := s.Append(context.Background(), partd.Entry{Key: fmt.Sprint(w), Value: value}); err == nil {
				acked[w]++
			}
			_ = s.Flush(context.Background()) // may fail; Get below flushes again
		}
	})
	healthy.Store(true)
	for w, n := range acked {
		v, err := s.Get(t.Context(), fmt.Sprint(w))
		if err != nil || len(v[0]) != n*len(value) || n == 0 {
			t.Errorf("writer %d: the length of the value does not match %d acknowledged appends (error %v)", w, n, err)
		}
	}
}

// TestCommitKeepsLaterPieces checks that segments that are appended during a commit are not lost.
func TestCommitKeepsLaterPieces(t *testing.T) {
	b := &faultyBucket{Bucket: new(Memory)}
	s := open(t, b, Options{SegmentSize: 1, hooks: hooks{maxInline: -1}})
	const n, size = 10, 50 << 10
	appendPieces := func() {
		for range n {
			must.Check(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: make([]byte, size)}))
		}
	}
	var isFirst atomic.Bool // the next log record is the first
	b.create = func(ctx context.Context, name string, data []byte) error {
		if strings.HasPrefix(name, "log/") && isFirst.CompareAndSwap(true, false) {
			appendPieces()
		}
		return b.Bucket.Create(ctx, name, data)
	}
	appendPieces()
	isFirst.Store(true)
	must.Do(t, s.Flush(t.Context()))
	if v, err := s.Get(t.Context(), "k"); err != nil || len(v[0]) != 2*n*size {
		t.Errorf("the value has %d bytes (error %v), want %d", len(v[0]), err, 2*n*size)
	}
}

// TestCloseWaitsForUploads checks that Close waits for the uploads of a failed append, which use the store's memory,
// and that it commits no part of the append.
func TestCloseWaitsForUploads(t *testing.T) {
	mem, proceed := new(Memory), make(chan bool)
	s := open(t, &faultyBucket{Bucket: mem, create: func(ctx context.Context, name string, data []byte) error {
		if strings.HasPrefix(name, "seg/") {
			<-proceed
		}
		return mem.Create(ctx, name, data)
	}}, Options{SegmentSize: 1, hooks: hooks{maxInline: -1}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	entries := slices.Repeat([]partd.Entry{{Key: "k", Value: make([]byte, 50<<10)}}, 20)
	if err := s.Append(ctx, entries...); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Append() error = %v, want %v", err, context.DeadlineExceeded)
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	must.NotReceive(t, closed, 20*time.Millisecond, "Close() returned during the uploads")
	close(proceed)
	must.Check(t, <-closed)
	wantValue(t, mem, "k", "")
}

// TestUploadWithoutAnswer checks that a flush succeeds if a segment was uploaded, but the answer was lost.
func TestUploadWithoutAnswer(t *testing.T) {
	b := &faultyBucket{Bucket: new(Memory)}
	isLost := false
	b.create = func(ctx context.Context, name string, data []byte) error {
		err := b.Bucket.Create(ctx, name, data)
		if strings.HasPrefix(name, "seg/") && !isLost {
			isLost, err = true, errServer
		}
		return err
	}
	appendAndFlush(t, open(t, b, Options{hooks: hooks{maxInline: -1}}), "k", "1;")
	wantValue(t, b, "k", "1;")
	if !isLost {
		t.Error("no answer was lost")
	}
}

// TestCompressedBlocks reads compressed blocks, which no store in a bucket writes. They must cause an
// error instead of overwriting the entries of the next segment in memory.
func TestCompressedBlocks(t *testing.T) {
	s := open(t, new(Memory), Options{hooks: hooks{maxInline: -1}})
	for _, e := range s.buffer.uploads.encoders {
		var err error
		if e.compressor, err = segment.NewCompressor(1); err != nil {
			t.Fatal(err)
		}
	}
	value := bytes.Repeat([]byte("value "), 100)
	for range 3 {
		for i := range 1000 {
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i), Value: value}))
		}
		must.Do(t, s.Flush(t.Context()))
	}
	if n, err := countKeys(t.Context(), s); !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("counted %d keys, error = %v, want a CorruptError", n, err)
	}
}
