package partd_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
)

// TestErrorsNameTheirStore checks that the errors of stores without a path name the kind of store.
func TestErrorsNameTheirStore(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	entry := partd.Entry{Key: "a", Value: []byte("1")}
	dict := partd.NewDict()
	buffer, err := partd.NewBuffer(partd.NewDict(), partd.NewDict(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Close()
	layer, err := compress.New(partd.NewDict(), compress.Zstd, nil)
	if err != nil {
		t.Fatal(err)
	}
	shut := partd.NewDict()
	_, session := dict.Apply(t.Context(), partd.Tag{Session: 9, Number: 1}, partd.Operation{Change: partd.ChangeDrop})
	if err := shut.Close(); err != nil {
		t.Fatal(err)
	}
	_, closed := shut.Get(t.Context(), "a")
	_, zero := new(partd.Buffer).Get(t.Context(), "a")
	var damaged error
	if err := layer.Unwrap().Append(t.Context(), entry); err == nil {
		_, damaged = layer.Get(t.Context(), "a")
	}
	for _, c := range []struct {
		store string
		err   error
	}{
		{"Dict", dict.Append(ended, entry)},
		{"Dict", dict.Drop(ended)},
		{"Dict", closed},
		{"Dict", session},
		{"Buffer", buffer.Append(ended, entry)},
		{"Buffer", buffer.Drop(ended)},
		{"Buffer", zero},
		{"zstd layer", layer.Append(ended, entry)},
		{"zstd layer", damaged},
		{"compression layer", new(compress.Store).Append(t.Context(), entry)},
	} {
		var e *partd.Error
		if !errors.As(c.err, &e) || e.Path != c.store || !strings.Contains(c.err.Error(), c.store) {
			t.Errorf("the error of a store does not name %s as its path: %v", c.store, c.err)
		}
	}
}
