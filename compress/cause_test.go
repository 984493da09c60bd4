package compress_test

import (
	"context"
	"errors"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
)

// What a context's end keeps from being done says why, also of one value, for which
// compress takes no second goroutine.
func TestCauseOfOneValue(t *testing.T) {
	s, err := compress.New(partd.NewDict(), compress.Zstd, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	err = s.Append(ctx, partd.Entry{Key: "a", Value: []byte("2")})
	if !errors.Is(err, why) || !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	if _, err = s.Get(ctx, "a"); err != nil && (!errors.Is(err, why) || !errors.Is(err, context.Canceled)) {
		t.Errorf("get: %v", err)
	}
}
