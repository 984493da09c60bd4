package compress_test

import (
	"context"
	"errors"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
)

// TestCauseOfCancellation checks that operations report the cause of a canceled context, even an
// operation with one value, for which the layer starts no goroutine.
func TestCauseOfCancellation(t *testing.T) {
	s, err := compress.New(partd.NewDict(), compress.Zstd, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("canceled by the test")
	cancel(cause)
	err = s.Append(ctx, partd.Entry{Key: "a", Value: []byte("2")})
	if !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
		t.Errorf("Append = %v, want context.Canceled and the cause", err)
	}
	if _, err = s.Get(ctx, "a"); err != nil && (!errors.Is(err, cause) || !errors.Is(err, context.Canceled)) {
		t.Errorf("Get = %v, want context.Canceled and the cause, or success", err)
	}
}
