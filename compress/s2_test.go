package compress

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
)

// TestS2HeaderDamage checks that a flipped bit before the data of a long piece is detected, both by Get and by Open.
func TestS2HeaderDamage(t *testing.T) {
	ctx := t.Context()
	dict := partd.NewDict()
	s, err := New(dict, S2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(ctx, partd.Entry{Key: "k", Value: bytes.Repeat([]byte("0123456789"), s2Block/5)}); err != nil {
		t.Fatal(err)
	}
	values, err := dict.Get(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * (len(s2Identifier) + s2HeaderLen + 8 + s2ChecksumLen) {
		damaged := bytes.Clone(values[0])
		damaged[frame.HeaderLen+bit/8] ^= 1 << (bit % 8)
		if err := dict.Set(ctx, "k", damaged); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, "k"); !errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("Get with bit %d flipped = %v, want a CorruptError", bit, err)
		}
		r, err := s.Open(ctx, "k")
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			_ = r.Close()
		}
		if !errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("reading with bit %d flipped = %v, want a CorruptError", bit, err)
		}
	}
}
