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
)

// Data that could not be uploaded must exist after the bucket works again. A failed
// append must have changed nothing.
func TestBucketOutage(t *testing.T) {
	b := &lying{Bucket: new(Memory)}
	s := open(t, b, Options{RetryFor: 20 * time.Millisecond, SegmentSize: 128 << 10})
	value := bytes.Repeat([]byte("x"), 50<<10)
	b.create = func(context.Context, string, []byte) error { return errServer }
	acked := 0
	var failed error
	for failed == nil && acked < 100 {
		if failed = s.Append(t.Context(), partd.Entry{Key: "k", Value: value}); failed == nil {
			acked++
		}
	}
	if acked == 0 || acked == 100 {
		t.Fatalf("%d appends, %v", acked, failed)
	}
	if err := s.Append(t.Context(), partd.Entry{Key: "large", Value: bytes.Repeat(value, 20)}); err == nil {
		t.Error("nothing was uploaded")
	}
	if err := s.Close(); err == nil {
		t.Error("Close succeeded without uploading the data")
	}
	refusedErr := errors.Join(ErrRefused)
	b.create = func(context.Context, string, []byte) error { return refusedErr }
	if err := s.Flush(t.Context()); !errors.Is(err, ErrRefused) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Error(err)
	}
	b.create = nil
	values, err := s.Get(t.Context(), "k", "large")
	if err != nil || len(values[0]) != acked*len(value) || len(values[1]) != 0 {
		t.Error(len(values[0]), len(values[1]), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// The next operation must complete a flush with unknown outcome, once.
func TestUnknownOutcomes(t *testing.T) {
	b := &lying{Bucket: new(Memory)}
	for _, done := range []bool{false, true} {
		s := open(t, b, Options{RetryFor: 10 * time.Millisecond})
		b.create = func(ctx context.Context, name string, data []byte) error {
			if done {
				_ = b.Bucket.Create(ctx, name, data)
			}
			return errServer
		}
		if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); !errors.Is(err, partd.ErrUnknownOutcome) {
			t.Error(err)
		}
		if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("2")}); err != nil {
			t.Fatal(err)
		}
		b.create = nil
		values, err := s.Get(t.Context(), "k")
		if err != nil || !strings.HasSuffix(string(values[0]), "12") || len(values[0])%2 != 0 {
			t.Errorf("%q, %v", values, err)
		}
	}
	s := open(t, b, Options{})
	if values, err := s.Get(t.Context(), "k"); err != nil || string(values[0]) != "1212" {
		t.Errorf("%q, %v", values, err)
	}
}

// A record that the bucket creates while it answers that it refuses must count once, and
// so must later appends.
func TestRefusedButCreated(t *testing.T) {
	for _, prefix := range []string{"log/", waitPrefix} {
		for _, created := range []bool{true, false} {
			b := new(Memory)
			s := contendedStore(t, b, Options{}, nil)
			l := s.bucket.(*lying)
			create, lied := l.create, 0
			if prefix == "log/" {
				create = b.Create
			}
			l.create = func(ctx context.Context, name string, data []byte) error {
				if !strings.HasPrefix(name, prefix) || lied > 0 {
					return create(ctx, name, data)
				}
				lied++
				if created {
					if err := create(ctx, name, data); err != nil {
						t.Error(err)
					}
				}
				return fmt.Errorf("403: %w", ErrRefused)
			}
			if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("1;")}); err != nil {
				t.Fatal(err)
			}
			if err := s.Flush(t.Context()); (err != nil) == created || err != nil && (!errors.Is(err, ErrRefused) || errors.Is(err, partd.ErrUnknownOutcome)) {
				t.Errorf("%s, created %v: %v", prefix, created, err)
			}
			add(t, s, "k", "2;")
			if v, err := value(t, b, "k", hooks{}); err != nil || v != "1;2;" || lied != 1 {
				t.Errorf("%s, created %v: %q, %v", prefix, created, v, err)
			}
		}
	}
}
