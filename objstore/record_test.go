package objstore

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
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

// writeVersion is set by packaging/versions only.
var writeVersion = flag.String("write-version", "", "write a store into this directory, instead of reading those in testdata/versions")

// TestReleasedVersions opens, reads and changes the store that each released version wrote into a bucket. With
// --write-version, it writes the store instead.
func TestReleasedVersions(t *testing.T) {
	use := func(dir string, want string) {
		bucket := must.Get(OpenDirectory(dir))(t)
		s := must.Get(Open(t.Context(), bucket, nil))(t)
		values, err := s.Get(t.Context(), "k", "deleted", "grouped")
		if err != nil || string(values[0]) != want || len(values[1]) != 0 || string(values[2]) != want[:min(len(want), len("piece"))] {
			t.Errorf("%s: Get returned %q, %v, want %q, nothing and the beginning of %q", dir, values, err, want, want)
		}
		err = s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("piece")}, partd.Entry{Key: "deleted", Value: []byte("piece")})
		must.Do(t, errors.Join(err, partd.Delete(t.Context(), s, "deleted"), s.Close()))
	}
	if *writeVersion != "" {
		dir := filepath.Join(*writeVersion, "objstore")
		use(dir, "")
		bucket := must.Get(OpenDirectory(dir))(t)
		appendAndFlush(t, contendedStore(t, bucket, Options{}, nil), "grouped", "piece")
		return
	}
	versions, err := filepath.Glob("../testdata/versions/v*/objstore")
	if err != nil || len(versions) == 0 {
		t.Fatalf("testdata/versions has the stores %q, error %v, want at least one", versions, err)
	}
	for _, version := range versions {
		dir := t.TempDir()
		must.Do(t, os.CopyFS(dir, os.DirFS(version)))
		use(dir, "piece")
		use(dir, "piecepiece")
	}
}
