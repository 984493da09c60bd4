package logstore_test

import (
	"testing"

	"github.com/go-partd/partd/internal/testutil/zerovalues"
	"github.com/go-partd/partd/logstore"
)

func TestZeroValues(t *testing.T) {
	zerovalues.Check(t, map[string]any{"Store": new(logstore.Store)}, "Close")
	zerovalues.Check(t, map[string]any{"Ledger": logstore.Ledger{}, "Compression": logstore.Compression(200)}, "*")
	errorOf := func(_ any, err error) error { return err }
	zerovalues.CheckErrors(t, map[string]func() error{
		"Open without a directory": func() error { return errorOf(logstore.Open("", nil)) },
		"an unknown compression": func() error {
			return errorOf(logstore.Open(t.TempDir(), &logstore.Options{Compression: 200}))
		},
	})
	s, err := logstore.OpenTemp("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
