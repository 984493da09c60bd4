package zfile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

var kinds = []compress.Format{compress.Gzip, compress.Zstd, compress.BZ2, compress.LZ4}

// randomText returns n bytes of lines that compress moderately.
func randomText(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(strings.Repeat("word ", r.IntN(4)))
		b.WriteByte(byte('a' + r.IntN(26)))
		b.WriteByte('\n')
	}
	return b.Bytes()[:n]
}

func pack(t *testing.T, kind compress.Format, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := must.Get(NewWriter(kind, &b, 1))(t)
	must.Get(w.Write(data))(t)
	must.Do(t, w.Close())
	return b.Bytes()
}

func unpack(kind compress.Format, packed []byte) ([]byte, error) {
	r, err := NewReader("f", kind, bytes.NewReader(packed), 0)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

func TestRoundTrip(t *testing.T) {
	for _, kind := range kinds {
		for _, n := range []int{0, 1, 1000, 3 << 20} {
			data := randomText(n)
			packed := pack(t, kind, data)
			if got := Detect(packed); got != kind {
				t.Errorf("Detect of %d compressed bytes = %s, want %s", n, got, kind)
			}
			if got, err := unpack(kind, packed); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: decompressing returns %d bytes, %v, want the original %d bytes", kind, len(got), err, n)
			}
			// Two concatenated files read as one.
			twoStreams := append(bytes.Clone(packed), pack(t, kind, []byte("more\n"))...)
			if got, err := unpack(kind, twoStreams); err != nil || string(got) != string(data)+"more\n" {
				t.Errorf("%s: decompressing two concatenated files returns %d bytes, %v, want both contents", kind, len(got), err)
			}
		}
	}
}

// TestDamage checks that a file that is cut off or has a flipped bit is never read as other data without an error.
func TestDamage(t *testing.T) {
	data := randomText(500)
	for _, kind := range kinds {
		packed := pack(t, kind, data)
		for n := 0; n < len(packed); n += 3 {
			_, err := unpack(kind, packed[:n])
			var e *Error
			if !errors.As(err, &e) || e.Offset > int64(n) || !strings.HasPrefix(err.Error(), "f: ") {
				t.Fatalf("reading %s data cut to %d of %d bytes = %v, want an *Error", kind, n, len(packed), err)
			}
		}
		for i := 0; i < 8*len(packed); i += 5 {
			bad := bytes.Clone(packed)
			bad[i/8] ^= 1 << (i % 8)
			if got, err := unpack(kind, bad); err == nil && !bytes.Equal(got, data) {
				t.Fatalf("reading %s data with a flipped bit %d returns %d wrong bytes and no error", kind, i, len(got))
			}
		}
		for _, tail := range []string{"x", "garbage", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
			if _, err := unpack(kind, append(bytes.Clone(packed), tail...)); err == nil {
				t.Errorf("reading %s data followed by %q returned no error", kind, tail)
			}
		}
	}
	if _, err := unpack(None, nil); err == nil {
		t.Error("NewReader accepted an empty file")
	}
}

// TestSkippableFrames checks that zstd and LZ4 files with skippable frames, which both formats have, can be read.
func TestSkippableFrames(t *testing.T) {
	skippableFrame := func(n int) []byte {
		frame := append([]byte("\x5f\x2a\x4d\x18"), binary.LittleEndian.AppendUint32(nil, uint32(n))...)
		return append(frame, bytes.Repeat([]byte{0x28, 0xb5, 0x2f, 0xfd}, n/4)...)
	}
	for _, kind := range []compress.Format{compress.Zstd, compress.LZ4} {
		data, name := randomText(5000), "f.zst"
		if kind == compress.LZ4 {
			name = "f.lz4"
		}
		packed := pack(t, kind, data)
		for _, c := range []struct{ parts [][]byte }{
			{[][]byte{skippableFrame(0), packed}},
			{[][]byte{skippableFrame(4), skippableFrame(1 << 20), packed}},
			{[][]byte{packed, skippableFrame(400)}},
			{[][]byte{skippableFrame(8), packed, skippableFrame(4), packed, skippableFrame(0)}},
			{[][]byte{skippableFrame(12)}},
		} {
			file := bytes.Join(c.parts, nil)
			want := bytes.Repeat(data, bytes.Count(file, packed))
			r := must.Get(NewReader(name, Detect(file), bytes.NewReader(file), 0))(t)
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) || r.Format() != kind {
				t.Errorf("%s in %d parts: read as %s, %d bytes of %d, %v", kind, len(c.parts), r.Format(), len(got), len(want), err)
			}
			if len(c.parts) == 1 || len(c.parts) == 5 {
				if _, err := unpack(Detect(file), file[:len(file)-1]); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("reading %s in %d parts without the last byte = %v, want io.ErrUnexpectedEOF", kind, len(c.parts), err)
				}
			}
		}
	}
}

// TestReadFails checks that the error of a failed read does not say that the file is damaged.
func TestReadFails(t *testing.T) {
	boom := errors.New("boom")
	for _, kind := range kinds {
		packed := pack(t, kind, randomText(5000))
		r, err := NewReader("f", kind, io.MultiReader(bytes.NewReader(packed[:100]), iotest.ErrReader(boom)), 0)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if !errors.Is(err, boom) || errors.As(err, new(*Error)) {
			t.Errorf("%s: a failed read returns %v, want %v", kind, err, boom)
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]struct {
		format  compress.Format
		trimmed string
	}{
		"a.csv.gz": {compress.Gzip, "a.csv"}, "b.ZST": {compress.Zstd, "b"}, "d/c.bz2": {compress.BZ2, "d/c"}, "e.lz4": {compress.LZ4, "e"}, "f.csv": {None, "f.csv"}, "gz": {None, "gz"},
	} {
		if FormatOf(name) != want.format || TrimName(name) != want.trimmed {
			t.Errorf("FormatOf(%q) = %q and TrimName = %q, want %q and %q", name, FormatOf(name), TrimName(name), want.format, want.trimmed)
		}
	}
	for _, head := range []string{"", "a,b", "BZh is text", "BZh91AY&SX", "\x1f"} {
		if k := Detect([]byte(head)); k != None {
			t.Errorf("Detect(%q) = %s, want None", head, k)
		}
	}
}

// TestConcatenated checks that concatenated compressed files read as one, and that other data after them is an error.
func TestConcatenated(t *testing.T) {
	for _, format := range []compress.Format{compress.Gzip, compress.Zstd, compress.LZ4} {
		var packed bytes.Buffer
		want := ""
		for _, part := range []string{"first\n", "second\n", "third\n"} {
			w := must.Get(NewWriter(format, &packed, 1))(t)
			must.Get(io.WriteString(w, part))(t)
			must.Do(t, w.Close())
			want += part
		}
		for _, rest := range []string{"", "other data"} {
			r := must.Get(NewReader("file", format, io.MultiReader(bytes.NewReader(packed.Bytes()), bytes.NewReader([]byte(rest))), MinWindow))(t)
			got, err := io.ReadAll(r)
			if string(got) != want || (err != nil) != (rest != "") || err != nil && !errors.As(err, new(*Error)) {
				t.Errorf("%s: reading three parts and %q = %q, %v, want %q", format, rest, got, err, want)
			}
			must.Do(t, r.Close())
		}
	}
}

// TestLibraryStopsAfterFrame checks that Reader reads what follows the first frame even if the library stops there, as
// some versions of the LZ4 library do.
func TestLibraryStopsAfterFrame(t *testing.T) {
	var frame bytes.Buffer
	w, err := NewWriter(compress.LZ4, &frame, 1)
	must.Do(t, err)
	_, err = io.WriteString(w, "second")
	must.Do(t, errors.Join(err, w.Close()))
	skippable := []byte("\x50\x2a\x4d\x18\x01\x00\x00\x00x")
	for _, c := range []struct {
		format compress.Format
		rest   []byte
		want   string
		isBad  bool
	}{
		{compress.LZ4, nil, "first", false},
		{compress.LZ4, skippable, "first", false},
		{compress.LZ4, slices.Concat(skippable, frame.Bytes()), "firstsecond", false},
		{compress.LZ4, []byte("other data"), "first", true},
		{compress.LZ4, slices.Concat(skippable, []byte("o")), "first", true},
		{compress.Gzip, frame.Bytes(), "first", true},
		{compress.BZ2, skippable, "first", true},
	} {
		count := &counter{r: bytes.NewReader(c.rest)}
		r := &Reader{name: "file", format: c.format, src: bufio.NewReader(count), count: count, decoder: strings.NewReader("first")}
		got, err := io.ReadAll(r)
		if string(got) != c.want || (err != nil) != c.isBad || err != nil && !errors.As(err, new(*Error)) {
			t.Errorf("%s: reading a frame and %q = %q, %v, want %q", c.format, c.rest, got, err, c.want)
		}
	}
}

// TestUsualPrograms checks that the reader reads files of the usual programs, and these programs read the writer's
// files.
func TestUsualPrograms(t *testing.T) {
	data := randomText(300_000)
	for program, kind := range map[string]compress.Format{"gzip": compress.Gzip, "zstd": compress.Zstd, "bzip2": compress.BZ2, "lz4": compress.LZ4} {
		t.Run(program, func(t *testing.T) {
			path := procs.LookPath(t, program)
			cmd := exec.Command(path, "-c")
			cmd.Stdin = bytes.NewReader(data)
			packed := must.Get(cmd.Output())(t)
			if got, err := unpack(kind, packed); err != nil || !bytes.Equal(got, data) || Detect(packed) != kind {
				t.Errorf("reading a file of %s returns %d bytes, %v, want the original data", program, len(got), err)
			}
			cmd = exec.Command(path, "-dc")
			cmd.Stdin = bytes.NewReader(pack(t, kind, data))
			if got, err := cmd.Output(); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s -d of our file returns %d wrong bytes, or the error %v", program, len(got), err)
			}
		})
	}
}
