package zfile

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
)

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
	if err != nil {
		t.Fatal(err)
	}
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
		r := &Reader{name: "file", format: c.format, src: bufio.NewReader(count), count: count, from: strings.NewReader("first")}
		got, err := io.ReadAll(r)
		if string(got) != c.want || (err != nil) != c.isBad || err != nil && !errors.As(err, new(*Error)) {
			t.Errorf("%s: reading a frame and %q = %q, %v, want %q", c.format, c.rest, got, err, c.want)
		}
	}
}
