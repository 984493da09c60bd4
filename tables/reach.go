package tables

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
)

type reachKey struct{}

// WithBuckets is a context whose statements of SQL, those of package transform as
// well, may name tables of these buckets alone. What takes a bucket by its name is
// not held to it.
func WithBuckets(ctx context.Context, buckets []string) context.Context {
	return context.WithValue(ctx, reachKey{}, buckets)
}

// Reaches is nil where statements may name tables of a bucket; its error wraps
// fs.ErrPermission. It is for an Engine.
func Reaches(ctx context.Context, bucket string) error {
	if all, ok := ctx.Value(reachKey{}).([]string); ok && !slices.Contains(all, bucket) {
		return fmt.Errorf("tables of bucket %q are out of reach here: %w", bucket, fs.ErrPermission)
	}
	return nil
}
