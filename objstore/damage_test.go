package objstore

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

// Each object loses a bit, its end, or everything.
func TestDamage(t *testing.T) {
	for _, opts := range append(optionVariants(hooks{maxInline: -1, rangeBytes: 256}), optionVariants(hooks{maxInline: 1 << 20, rangeBytes: 256})...) {
		mem := new(Memory)
		s := open(t, mem, opts)
		for range 3 {
			fill(t, s, 50)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
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
				broken := map[string]memoryObject{}
				for n, o := range mem.objects {
					broken[n] = o
				}
				if c.change == nil {
					delete(broken, name)
				} else {
					broken[name] = memoryObject{c.change(bytes.Clone(o.data)), o.modified}
				}
				b := &Memory{objects: broken}
				s, err := Open(t.Context(), b, &Options{Memory: MinMemory, ReadOnly: true, RetryFor: 100 * time.Millisecond, Disk: opts.Disk, hooks: hooks{alwaysRegroup: true}})
				last := c.change == nil && name == logName(2)
				if name == storeName {
					if err == nil {
						t.Errorf("%s of %s was not detected", c.desc, name)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				_, err = s.Check(t.Context())
				if (err == nil) != last { // the loss of the last record cannot be detected
					t.Errorf("%s of %s: verify: %v", c.desc, name, err)
				}
				n, err := countKeys(t.Context(), s)
				unread := strings.HasPrefix(name, "seg/") && err == nil && n == 50 // a header, or a footer that is also in the log
				if !last && !unread && !errors.As(err, new(*partd.CorruptError)) {
					t.Errorf("%s of %s: scan: %d keys, %v", c.desc, name, n, err)
				}
				values, err := s.Get(t.Context(), "key 7")
				if err == nil && string(values[0]) != "valuevaluevalue" && !last {
					t.Errorf("%s of %s: get: %q", c.desc, name, values)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// A bit that flips in transit is not damage.
func TestTransientBitFlips(t *testing.T) {
	for _, o := range optionVariants(hooks{maxInline: -1}) {
		b := &lying{Bucket: new(Memory)}
		s := open(t, b, o)
		fill(t, s, 1000)
		once := false
		b.read = func(name string, _, _ int64, data []byte) ([]byte, error) {
			if strings.HasPrefix(name, "seg/") && !once {
				once = true
				data[len(data)/2] ^= 1
			}
			return data, nil
		}
		if n := count(t, s); n != 1000 || !once {
			t.Error(n, once)
		}
	}
}

// A broken connection must not look like the end of an object.
func TestBrokenConnections(t *testing.T) {
	for _, o := range optionVariants(hooks{maxInline: -1}) {
		b := &lying{Bucket: new(Memory)}
		s := open(t, b, o)
		fill(t, s, 1000)
		n := 0
		b.read = func(name string, _, _ int64, data []byte) ([]byte, error) {
			if n++; n%3 != 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return data, nil
		}
		if n := count(t, s); n != 1000 {
			t.Error(n)
		}
	}
}

// The ledger must detect missing data that no checksum covers.
func TestLedgerDetectsMissingData(t *testing.T) {
	for _, noLedger := range []bool{false, true} {
		remaining := false
		skip := func(string) bool {
			first := !remaining
			remaining = true
			return first
		}
		for _, o := range optionVariants(hooks{maxInline: -1, noLedger: noLedger, skip: skip}) {
			remaining = false
			s := open(t, new(Memory), o)
			fill(t, s, 10)
			n, err := countKeys(t.Context(), s)
			if noLedger && (n != 0 || err != nil) {
				t.Errorf("without the ledger: %d keys, %v", n, err)
			}
			if !noLedger && !errors.As(err, new(*partd.CorruptError)) {
				t.Error(n, err)
			}
		}
	}
}
