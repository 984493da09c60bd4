package compress_test

import (
	"context"
	"errors"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
)

// TestCauseOfCancellation checks that an operation on one value also reports the cause of a
// canceled context. It runs without another goroutine.
func TestCauseOfCancellation(t *testing.T) {
	s, err := compress.New(partd.NewDict(), compress.Zstd, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("why")
	cancel(cause)
	err = s.Append(ctx, partd.Entry{Key: "a", Value: []byte("2")})
	if !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	if _, err = s.Get(ctx, "a"); err != nil && (!errors.Is(err, cause) || !errors.Is(err, context.Canceled)) {
		t.Errorf("get: %v", err)
	}
}
