package objstore

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

// TestFormatOfGroups checks that only groups have version 2, so that programs without support for groups can read all
// other objects.
func TestFormatOfGroups(t *testing.T) {
	b := new(Memory)
	appendAndFlush(t, contendedStore(t, b, Options{}, nil), "k", "1")
	groups := 0
	for name, o := range b.objects {
		want := byte(1)
		if strings.HasPrefix(name, "log/") && operation(o.data[12]) == opGroup {
			groups++
			want = 2
		}
		if strings.HasPrefix(name, "sweep/") {
			continue
		}
		if o.data[8] != want {
			t.Errorf("%s has version %d, want %d", name, o.data[8], want)
		}
	}
	if groups != 1 {
		t.Errorf("the bucket contains %d groups, want 1", groups)
	}
}

func TestDamagedGroups(t *testing.T) {
	mem := new(Memory)
	for i := range 3 {
		appendAndFlush(t, contendedStore(t, mem, Options{}, nil), "k", fmt.Sprint(i, ";"))
	}
	damages := map[string]func(b []byte) []byte{
		"last 7 bytes removed": func(b []byte) []byte { return b[:len(b)-7] },
		"all bytes removed":    func(b []byte) []byte { return nil },
		"object removed":       nil,
	}
	for _, offset := range []int{3, 13, 20, 40, 62, 70, 90} {
		damages[fmt.Sprint("a bit of byte ", offset, " flipped")] = func(b []byte) []byte { b[offset] ^= 4; return b }
	}
	for name, o := range mem.objects {
		if !strings.HasPrefix(name, "log/") && !strings.HasPrefix(name, waitPrefix) {
			continue
		}
		for desc, change := range damages {
			b := &Memory{objects: map[string]memoryObject{}}
			for n, o := range mem.objects {
				b.objects[n] = o
			}
			delete(b.objects, name)
			if change != nil {
				b.objects[name] = memoryObject{change(bytes.Clone(o.data)), o.modified}
			}
			s := open(t, b, Options{ReadOnly: true, RetryFor: 10 * time.Millisecond})
			v, err := s.Get(t.Context(), "k")
			isLastRecord := change == nil && name == logName(8) // its loss cannot be detected
			if isLastRecord && (err != nil || string(v[0]) != "0;1;") || !isLastRecord && !errors.As(err, new(*partd.CorruptError)) {
				t.Errorf("%s, %s: Get(k) = %q, %v; want a CorruptError (or 0;1; if the last record of the log is removed)", name, desc, v, err)
			}
		}
	}
}
