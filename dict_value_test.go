package partd

import (
	"bytes"
	"errors"
	"testing"
)

// TestCopyValue checks that CopyValue copies a value only if it fits, and always returns its length.
func TestCopyValue(t *testing.T) {
	d := NewDict()
	value := bytes.Repeat([]byte("value"), 30_000)
	if err := d.Append(t.Context(), Entry{"k", value[:7]}, Entry{"k", value[7:]}); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, len(value) - 1, len(value), len(value) + 1} {
		dst := bytes.Repeat([]byte{'-'}, size)
		want := bytes.Clone(dst)
		if size >= len(value) {
			copy(want, value)
		}
		if n, err := d.CopyValue(t.Context(), dst, "k"); n != int64(len(value)) || err != nil || !bytes.Equal(dst, want) {
			t.Errorf("CopyValue into %d bytes = %d, %v, or wrong bytes; want %d", size, n, err, len(value))
		}
	}
	if n, err := d.CopyValue(t.Context(), nil, "absent"); n != 0 || err != nil {
		t.Errorf("CopyValue of an absent key = %d, %v; want 0", n, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.CopyValue(t.Context(), nil, "k"); !errors.Is(err, ErrClosed) {
		t.Errorf("CopyValue after Close = %v, want ErrClosed", err)
	}
}
