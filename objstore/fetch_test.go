package objstore

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestDamagedObjects(t *testing.T) {
	for _, opts := range append(optionVariants(hooks{maxInline: -1, rangeBytes: 256}), optionVariants(hooks{maxInline: 1 << 20, rangeBytes: 256})...) {
		mem := new(Memory)
		s := open(t, mem, opts)
		for range 3 {
			fill(t, s, 50)
		}
		must.Do(t, s.Close())
		for name, o := range mem.objects {
			for _, c := range []struct {
				desc   string
				change func(b []byte) []byte
			}{
				{"a bit at the beginning", func(b []byte) []byte { b[5] ^= 1; return b }},
				{"a bit at a third", func(b []byte) []byte { b[len(b)/3] ^= 4; return b }},
				{"a bit in the middle", func(b []byte) []byte { b[len(b)/2] ^= 128; return b }},
				{"a bit at the end", func(b []byte) []byte { b[len(b)-1] ^= 2; return b }},
				{"the end", func(b []byte) []byte { return b[:len(b)*2/3] }},
				{"all bytes", func(b []byte) []byte { return nil }},
				{"the object", nil},
			} {
				damaged := map[string]memoryObject{}
				for n, o := range mem.objects {
					damaged[n] = o
				}
				if c.change == nil {
					delete(damaged, name)
				} else {
					damaged[name] = memoryObject{c.change(bytes.Clone(o.data)), o.modified}
				}
				b := &Memory{objects: damaged}
				s, err := Open(t.Context(), b, &Options{Memory: MinMemory, ReadOnly: true, RetryFor: 100 * time.Millisecond, Disk: opts.Disk, hooks: hooks{alwaysRegroup: true}})
				isLastRecord := c.change == nil && name == logName(2)
				if name == storeName {
					if err == nil {
						t.Errorf("Open() did not detect damage to %s of %s", c.desc, name)
					}
					continue
				}
				must.Do(t, err)
				_, err = s.Check(t.Context())
				if (err == nil) != isLastRecord { // the loss of the last record cannot be detected
					t.Errorf("damage to %s of %s: Check() error = %v, want an error unless the last record is lost", c.desc, name, err)
				}
				n, err := countKeys(t.Context(), s)
				isUnreadPart := strings.HasPrefix(name, "seg/") && err == nil && n == 50 // a header, or a footer that is also in the log
				if !isLastRecord && !isUnreadPart && !errors.As(err, new(*partd.CorruptError)) {
					t.Errorf("damage to %s of %s: counted %d keys, error = %v, want a CorruptError", c.desc, name, n, err)
				}
				values, err := s.Get(t.Context(), "key 7")
				if err == nil && string(values[0]) != "valuevaluevalue" && !isLastRecord {
					t.Errorf("damage to %s of %s: Get() = %q without an error", c.desc, name, values)
				}
				must.Check(t, s.Close())
			}
		}
	}
}

// TestTransientBitFlips checks that a bit that flips during one read causes no error.
func TestTransientBitFlips(t *testing.T) {
	for _, o := range optionVariants(hooks{maxInline: -1, rangeBytes: 64}) {
		b := &faultyBucket{Bucket: new(Memory)}
		s := open(t, b, o)
		fill(t, s, 1000)
		flipped := false
		b.read = func(name string, _, _ int64, data []byte) ([]byte, error) {
			if strings.HasPrefix(name, "seg/") && !flipped {
				flipped = true
				data[len(data)/2] ^= 1
			}
			return data, nil
		}
		if n := must.Get(countKeys(t.Context(), s))(t); n != 1000 || !flipped {
			t.Errorf("the store has %d keys, want 1000; a bit was flipped: %v", n, flipped)
		}
	}
}

// TestDamagedRecordIsReadAgain checks that a reader does not skip a record of the log whose first read failed.
func TestDamagedRecordIsReadAgain(t *testing.T) {
	b := &faultyBucket{Bucket: new(Memory)}
	appendAndFlush(t, open(t, b, Options{}), "k", "1;")
	s := open(t, b, Options{ReadOnly: true})
	flipped := false
	b.read = func(name string, _, _ int64, data []byte) ([]byte, error) {
		if strings.HasPrefix(name, "log/") && !flipped {
			flipped = true
			data[len(data)/2] ^= 1
		}
		return data, nil
	}
	if _, err := s.Get(t.Context(), "k"); !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("Get() error = %v, want a CorruptError", err)
	}
	if v, err := s.Get(t.Context(), "k"); err != nil || string(v[0]) != "1;" {
		t.Errorf("the second Get() = %q, %v; want %q", v, err, "1;")
	}
}

// TestRecordsOutOfOrder checks that readers notice that the log repeats a record of a writer, or lacks an earlier one.
func TestRecordsOutOfOrder(t *testing.T) {
	for _, step := range []uint64{0, 2} {
		b := new(Memory)
		s := open(t, b, Options{})
		appendAndFlush(t, s, "k", "1;")
		r := record{number: 1, op: opDrop, writer: s.writer, seq: s.committer.lastSeq + step}
		must.Do(t, b.Create(t.Context(), logName(1), r.encode(s.format)))
		if v, err := readValue(t, b, "k"); !errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("after record +%d, the value is %q (error %v), want a CorruptError", step, v, err)
		}
	}
}

// TestBrokenBody checks that a response that breaks in its middle is an error.
func TestBrokenBody(t *testing.T) {
	body := io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(io.ErrUnexpectedEOF))
	r := &sequentialReader{r: io.NopCloser(body)}
	if n, err := r.ReadAt(make([]byte, 5), 0); n != 3 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadAt() = %d, %v; want 3, %v", n, err, io.ErrUnexpectedEOF)
	}
}

// TestBrokenConnections checks that a broken connection does not look like the end of an object.
func TestBrokenConnections(t *testing.T) {
	for _, o := range optionVariants(hooks{maxInline: -1}) {
		b := &faultyBucket{Bucket: new(Memory)}
		s := open(t, b, o)
		fill(t, s, 1000)
		n := 0
		b.read = func(name string, _, _ int64, data []byte) ([]byte, error) {
			if n++; n%3 != 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return data, nil
		}
		wantKeys(t, s, 1000)
	}
}

// TestLedgersAreCompared checks that Scan and Check compare a segment's entries with its ledger (checksums
// of all entries together).
func TestLedgersAreCompared(t *testing.T) {
	for _, o := range optionVariants(hooks{maxInline: -1}) {
		s := open(t, new(Memory), o)
		fill(t, s, 10)
		v := must.Get(s.flushAndRefresh(t.Context()))(t)
		g := v.segments[0]
		must.Do(t, s.checkSegment(t.Context(), g))
		g.ledger.Pieces++
		if err := s.checkSegment(t.Context(), g); !errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("with one more entry in the ledger: checkSegment() error = %v, want a CorruptError", err)
		}
		if n, err := countKeys(t.Context(), s); !errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("with one more entry in the ledger: counted %d keys, error = %v, want a CorruptError", n, err)
		}
	}
}

// TestHighestLogNumber checks that a log object with the highest number is damage, because the records
// before it are missing.
func TestHighestLogNumber(t *testing.T) {
	b := new(Memory)
	appendAndFlush(t, open(t, b, Options{}), "k", "1;")
	must.Do(t, b.Create(t.Context(), logName(math.MaxUint64), nil))
	if v, err := readValue(t, b, "k"); !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("reading returned %q, error %v; want a CorruptError", v, err)
	}
}
