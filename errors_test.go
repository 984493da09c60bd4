package partd_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
)

// TestErrorsNameTheirStore checks that errors name the store: its directory, or else its kind.
func TestErrorsNameTheirStore(t *testing.T) {
	canceledCtx, cancel := context.WithCancel(t.Context())
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
	dir := t.TempDir()
	file, err := partd.OpenFile(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, fileErr := file.Apply(t.Context(), partd.Tag{Session: 9, Number: 1}, partd.Operation{Change: partd.ChangeDrop})
	closedDict := partd.NewDict()
	_, sessionErr := dict.Apply(t.Context(), partd.Tag{Session: 9, Number: 1}, partd.Operation{Change: partd.ChangeDrop})
	if err := closedDict.Close(); err != nil {
		t.Fatal(err)
	}
	_, closedErr := closedDict.Get(t.Context(), "a")
	_, zeroErr := new(partd.Buffer).Get(t.Context(), "a")
	var damagedErr error
	if err := layer.Unwrap().Append(t.Context(), entry); err == nil {
		_, damagedErr = layer.Get(t.Context(), "a")
	}
	for _, c := range []struct {
		store string
		err   error
	}{
		{"Dict", dict.Append(canceledCtx, entry)},
		{"Dict", dict.Drop(canceledCtx)},
		{"Dict", closedErr},
		{"Dict", sessionErr},
		{dir, file.Append(canceledCtx, entry)},
		{dir, fileErr},
		{"Buffer", buffer.Append(canceledCtx, entry)},
		{"Buffer", buffer.Drop(canceledCtx)},
		{"Buffer", zeroErr},
		{"zstd layer", layer.Append(canceledCtx, entry)},
		{"zstd layer", damagedErr},
		{"compression layer", new(compress.Store).Append(t.Context(), entry)},
	} {
		var e *partd.Error
		if !errors.As(c.err, &e) || e.Path != c.store || !strings.Contains(c.err.Error(), c.store) {
			t.Errorf("the error of a store does not name %s as its path: %v", c.store, c.err)
		}
	}
}
