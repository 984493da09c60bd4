package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestBucketOutage checks that appends that were acknowledged during an outage are committed after the outage, and that
// failed appends have no effect.
func TestBucketOutage(t *testing.T) {
	b := &faultyBucket{Bucket: new(Memory)}
	s := open(t, b, Options{RetryFor: 20 * time.Millisecond, SegmentSize: 128 << 10})
	value := bytes.Repeat([]byte("x"), 50<<10)
	b.create = func(context.Context, string, []byte) error { return errServer }
	acked := 0
	var appendErr error
	for appendErr == nil && acked < 100 {
		if appendErr = s.Append(t.Context(), partd.Entry{Key: "k", Value: value}); appendErr == nil {
			acked++
		}
	}
	if acked == 0 || acked == 100 {
		t.Fatalf("%d appends succeeded during the outage (error %v), want 1 to 99", acked, appendErr)
	}
	if err := s.Append(t.Context(), partd.Entry{Key: "large", Value: bytes.Repeat(value, 20)}); err == nil {
		t.Error("a large append succeeded although nothing can be uploaded")
	}
	if err := s.Close(); err == nil {
		t.Error("Close succeeded without uploading the data")
	}
	refusedErr := errors.Join(ErrRefused)
	b.create = func(context.Context, string, []byte) error { return refusedErr }
	if err := s.Flush(t.Context()); !errors.Is(err, ErrRefused) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("Flush() error = %v, want %v, and a known outcome", err, ErrRefused)
	}
	b.create = nil
	values, err := s.Get(t.Context(), "k", "large")
	if err != nil || len(values[0]) != acked*len(value) || len(values[1]) != 0 {
		t.Errorf("Get() returned %d and %d bytes (error %v), want %d and 0", len(values[0]), len(values[1]), err, acked*len(value))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestRefusedButCreated checks that each appended piece exists once if the bucket answers that it
// refused a record, whether it created the record or not.
func TestRefusedButCreated(t *testing.T) {
	for _, prefix := range []string{"log/", waitPrefix} {
		for _, created := range []bool{true, false} {
			b := new(Memory)
			s := contendedStore(t, b, Options{}, nil)
			l := s.bucket.(*faultyBucket)
			create, falseRefusals := l.create, 0
			if prefix == "log/" {
				create = b.Create
			}
			l.create = func(ctx context.Context, name string, data []byte) error {
				if !strings.HasPrefix(name, prefix) || falseRefusals > 0 {
					return create(ctx, name, data)
				}
				falseRefusals++
				if created {
					if err := create(ctx, name, data); err != nil {
						t.Error(err)
					}
				}
				return fmt.Errorf("403: %w", ErrRefused)
			}
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("1;")}))
			if err := s.Flush(t.Context()); (err != nil) == created || err != nil && (!errors.Is(err, ErrRefused) || errors.Is(err, partd.ErrUnknownOutcome)) {
				t.Errorf("%s, created %v: Flush() error = %v, want ErrRefused only if the record was not created", prefix, created, err)
			}
			appendAndFlush(t, s, "k", "2;")
			if v, err := readValue(t, b, "k"); err != nil || v != "1;2;" || falseRefusals != 1 {
				t.Errorf("%s, created %v: the value is %q (error %v), want %q; refused %d requests, want 1", prefix, created, v, err, "1;2;", falseRefusals)
			}
		}
	}
}
