package zfile

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/go-partd/partd/compress"
)

// TestConcatenated checks that concatenated compressed files read as one, and that other data after them is an error.
func TestConcatenated(t *testing.T) {
	for _, format := range []compress.Format{compress.Gzip, compress.Zstd, compress.LZ4} {
		var packed bytes.Buffer
		want := ""
		for _, part := range []string{"first\n", "second\n", "third\n"} {
			w, err := NewWriter(format, &packed, 1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, part); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			want += part
		}
		for _, rest := range []string{"", "other data"} {
			r, err := NewReader("file", format, io.MultiReader(bytes.NewReader(packed.Bytes()), bytes.NewReader([]byte(rest))), MinWindow)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if string(got) != want || (err != nil) != (rest != "") || err != nil && !errors.As(err, new(*Error)) {
				t.Errorf("%s: reading three parts and %q = %q, %v, want %q", format, rest, got, err, want)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
