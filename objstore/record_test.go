package objstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

// TestOtherFormatVersions checks that an object with an older or newer format version is refused. The
// error must name the object, its version and the supported version.
func TestOtherFormatVersions(t *testing.T) {
	mem := new(Memory)
	appendAndFlush(t, contendedStore(t, mem, Options{}, nil), "k", "1")
	for name, o := range mem.objects {
		supported := byte(recordVersion)
		if name == storeName {
			supported = storeVersion
		}
		for _, version := range []byte{supported - 1, supported + 1} {
			b := &Memory{objects: maps.Clone(mem.objects)}
			data := bytes.Clone(o.data)
			data[8] = version
			b.objects[name] = memoryObject{data, o.modified}
			s, err := Open(t.Context(), b, &Options{ReadOnly: true, RetryFor: 10 * time.Millisecond})
			if err == nil {
				_, err = s.Get(t.Context(), "k")
			}
			want := fmt.Sprintf("%s is corrupt: it has format version %d, but this program supports only version %d", name, version, supported)
			if !errors.As(err, new(*partd.CorruptError)) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s of version %d: error %v, want a CorruptError with %q", name, version, err, want)
			}
		}
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
