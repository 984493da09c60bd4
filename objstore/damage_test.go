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

// Of each object, a bit, the end, or all of it is lost.
func TestDamage(t *testing.T) {
	for _, opts := range append(ways(hooks{inline: -1, rangeBytes: 256}), ways(hooks{inline: 1 << 20, rangeBytes: 256})...) {
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
				what   string
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
				s, err := Open(t.Context(), b, &Options{Memory: MinMemory, ReadOnly: true, RetryFor: 100 * time.Millisecond, Disk: opts.Disk, hooks: hooks{regroup: true}})
				last := c.change == nil && name == logName(2)
				if name == storeName {
					if err == nil {
						t.Errorf("%s of %s: no error", c.what, name)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				_, err = s.Check(t.Context())
				if (err == nil) != last { // nobody knows of a last record that is gone
					t.Errorf("%s of %s: verify: %v", c.what, name, err)
				}
				n, err := countKeys(t.Context(), s)
				unread := strings.HasPrefix(name, "seg/") && err == nil && n == 50 // a header or a footer of which the log has a copy
				if !last && !unread && !errors.As(err, new(*partd.CorruptError)) {
					t.Errorf("%s of %s: scan: %d keys, %v", c.what, name, n, err)
				}
				values, err := s.Get(t.Context(), "key 7")
				if err == nil && string(values[0]) != "valuevaluevalue" && !last {
					t.Errorf("%s of %s: get: %q", c.what, name, values)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// A bit that flips on its way is no damage.
func TestBitsThatFlipOnce(t *testing.T) {
	for _, o := range ways(hooks{inline: -1}) {
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

// Connections that break off in the middle are not the end.
func TestReadsThatBreakOff(t *testing.T) {
	for _, o := range ways(hooks{inline: -1}) {
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

// What no checksum sees, the ledger does.
func TestLedgerSeesWhatWasLeftOut(t *testing.T) {
	for _, noLedger := range []bool{false, true} {
		left := false
		skip := func(string) bool {
			first := !left
			left = true
			return first
		}
		for _, o := range ways(hooks{inline: -1, noLedger: noLedger, skip: skip}) {
			left = false
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
